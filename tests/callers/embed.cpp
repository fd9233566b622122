// SPDX-License-Identifier: Apache-2.0
// embed CONFIG BODY: the same as embed.c, in C++.
#include <unistd.h>

#include <dynamo_llm.hpp>
#include <iostream>

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    alarm(100);
    try {
        const dynamo_llm::Runtime runtime(argv[1]);
        for (const auto &response : runtime.send(argv[2])) {
            std::cout << response.json() << '\n' << response.usage()->prompt_tokens << '\n';
        }
    } catch (const dynamo_llm::Error &error) {
        std::cerr << error.what() << '\n';
        return 2;
    }
    return 0;
}
