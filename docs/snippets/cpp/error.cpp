// g++ -std=c++17 -o error error.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    try {
        dynamo_llm::Runtime runtime(dynamo_llm::Config().engine("ehco"));
    } catch (const dynamo_llm::Error &error) {
        std::cout << error.status_name() << ": " << error.what() << '\n';
    }
    // end
}
