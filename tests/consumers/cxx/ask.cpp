// SPDX-License-Identifier: Apache-2.0
// ask CONFIG PROMPT: prints the answer; or, with exit code 3, status and message of the error.
#include <dynamo_llm.hpp>
#include <iostream>

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    try {
        dynamo_llm::Runtime runtime{std::string(argv[1])};
        for (auto &response : runtime.send(dynamo_llm::Chat(argv[2]))) {
            std::cout << response.text() << std::flush;
        }
    } catch (const dynamo_llm::Error &error) {
        std::cout << error.status_name() << '\n' << error.what() << '\n';
        return 3;
    }
}
