// SPDX-License-Identifier: Apache-2.0
// The loop with which a C++ program receives an answer; cost_loop.c is the same in C. check_cost.cmake compares
// the machine code of both.
#include <string>

#include "dynamo_llm.hpp"

extern "C" void sink(const char *text, std::size_t length);

extern "C" void loop_next(const dynamo_llm::Request &request) {
    while (const auto received = request.next()) {
        const std::string_view text = received.response.text();
        sink(text.data(), text.size());
    }
}

extern "C" void loop_over(const dynamo_llm::Request &request) {
    for (const auto &response : request) {
        const std::string_view text = response.text();
        sink(text.data(), text.size());
    }
}

#if defined(COSTLY)  // proves that the check detects an allocation
extern "C" void loop_costly(const dynamo_llm::Request &request) {
    while (const auto received = request.next()) {
        const std::string text(received.response.text());
        sink(text.data(), text.size());
    }
}
#endif
