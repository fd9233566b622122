// SPDX-License-Identifier: Apache-2.0
// Shared by the C++ test programs: the checks of the C tests, and uniform access to errors, whether they are thrown or
// returned.
#ifndef SUPPORT_HPP
#define SUPPORT_HPP

#include <pthread.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "dynamo_llm.hpp"

extern "C" {
#include "../c/support.h"
}

using dynamo_llm::Chat;
using dynamo_llm::Completion;
using dynamo_llm::Config;
using dynamo_llm::Detokenizer;
using dynamo_llm::Error;
using dynamo_llm::Event;
using dynamo_llm::Json;
using dynamo_llm::Queue;
using dynamo_llm::Received;
using dynamo_llm::Request;
using dynamo_llm::Response;
using dynamo_llm::Runtime;
using dynamo_llm::TokenIds;
using dynamo_llm::Tokenizer;
using std::chrono::milliseconds;

// Returns the value of a call that must succeed.
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
template <class T>
T must(dynamo_llm::Result<T> result) {
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error().json().c_str());
    }
    CHECK(result.has_value());
    return std::move(result).value();
}
inline void must(dynamo_llm::Result<void> result) {
    if (!result) {
        std::fprintf(stderr, "%s\n", result.error().json().c_str());
    }
    CHECK(result.has_value());
}
#define MUST(...) must(__VA_ARGS__)
#else
#define MUST(...) (__VA_ARGS__)
#endif

// Returns the error of a call that must fail.
template <class Function>
Error error_of(Function &&function) {
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
    const auto result = function();
    CHECK(!result.has_value());
    return result.error();
#else
    try {
        (void)function();
    } catch (const Error &error) {
        return error;
    }
    check_failed(__FILE__, __LINE__, "the call", "did not throw");
    std::abort();
#endif
}

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != text.npos;
}

inline Runtime start_cpp(std::string_view engine = "echo") {
    return MUST(Runtime::create(Config().engine(engine)));
}

// Returns a request whose prompt is a script for the engine "scripted".
inline Completion script(std::string_view text) {
    std::string json(text);
    for (char &c : json) {
        c = c == '\'' ? '"' : c;
    }
    return Completion(json);
}

inline std::string whole_text(const Request &request) {
    std::string text;
    for (const Response &response : request) {
        text += response.text();
    }
    return text;
}

#endif
