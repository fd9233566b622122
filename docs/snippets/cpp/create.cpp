// g++ -std=c++17 -o create create.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    std::string phase;
    const auto show = [&](const dynamo_llm::Progress &progress) {
        if (std::exchange(phase, progress.phase) != progress.phase) {
            std::cout << phase << " ...\n";
        }
    };
    const dynamo_llm::Creation creation = dynamo_llm::Runtime::create_async("{}", show);
    while (!creation.wait_for(std::chrono::milliseconds(20))) {
        // Do something else; creation.cancel() ends the loading.
    }
    dynamo_llm::Runtime runtime = creation.wait();  // or the error, as an exception
    std::cout << "ready\n";
    // end
}
