// g++ -std=c++17 -fno-exceptions -o returning returning.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    auto runtime = dynamo_llm::Runtime::create(dynamo_llm::Config().engine("ehco"));
    if (!runtime) {
        std::cout << runtime.error().status_name() << ": " << runtime.error().what() << '\n';
    }
    // end
}
