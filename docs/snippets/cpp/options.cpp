// g++ -std=c++17 -o options options.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    using namespace dynamo_llm;
    Runtime runtime(Config().engine("echo").option("repeat", 2));
    Request request = runtime.send(Chat()
                                       .system("Be brief.")
                                       .user("one two three ")
                                       .max_tokens(4)
                                       .stream(false));  // the whole answer as one response
    const Response response = request.recv();
    std::cout << response.text() << '(' << response.finish_reason() << ")\n";
    if (const auto usage = response.usage()) {
        std::cout << usage->completion_tokens << " tokens\n";
    }
    // end
}
