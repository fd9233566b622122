// g++ -std=c++17 -o structured structured.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    const auto schema = dynamo_llm::Json::raw(R"({
        "type": "object",
        "properties": {"phase": {"enum": ["first", "second"]}, "limited_by": {"enum": ["compute", "memory"]}},
        "required": ["phase", "limited_by"],
        "additionalProperties": false
    })");
    dynamo_llm::Runtime runtime;
    dynamo_llm::Chat chat("What is prefill?");
    chat.set("guided_json", schema).stream(false);
    for (auto &response : runtime.send(chat))
        std::cout << response.text() << '\n';
    // end
}
