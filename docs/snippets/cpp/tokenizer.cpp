// g++ -std=c++17 -o tokenizer tokenizer.cpp $(dynamo-llm config --cflags --libs)
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    // begin
    dynamo_llm::Tokenizer tokenizer;
    dynamo_llm::Detokenizer detokenizer = tokenizer.detokenizer();
    const std::string prompt = tokenizer.apply_template(dynamo_llm::Chat("A smile: \U0001F600"));
    for (const std::uint32_t id : tokenizer.encode(prompt, false)) {
        std::cout << id << " \"" << detokenizer.add(id) << "\"\n";
    }
    // end
}
