// g++ -std=c++17 -o first first.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    dynamo_llm::Runtime runtime;
    for (auto &response : runtime.send(dynamo_llm::Chat("What is a KV cache?"))) {
        std::cout << response.text() << std::flush;
    }
    std::cout << '\n';
}
