// SPDX-License-Identifier: Apache-2.0
// Asks the engine "echo", which needs no model and no Python.
#include <dynamo_llm.hpp>
#include <iostream>

int main() {
    dynamo_llm::Runtime runtime{R"({"engine": "echo"})"};
    std::string answer;
    for (auto &response : runtime.send(dynamo_llm::Completion("hello"))) {
        answer += response.text();
    }
    std::cout << answer << "\n";
    return answer == "hello" ? 0 : 1;
}
