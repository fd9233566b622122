// g++ -std=c++17 -o models models.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    dynamo_llm::Runtime runtime(
        R"({"models": [{"name": "demo"}, {"name": "parrot", "engine": "echo"}]})");
    for (const char *name : {"demo", "parrot"}) {
        std::cout << name << ": ";
        for (auto &response : runtime.send(dynamo_llm::Chat("What is prefill?").model(name))) {
            std::cout << response.text();
        }
        std::cout << '\n';
    }
    // end
}
