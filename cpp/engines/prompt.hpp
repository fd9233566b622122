// SPDX-License-Identifier: Apache-2.0
// What the native engines read from a request.
#pragma once

#include <cstdint>
#include <string>

#include "core/json.hpp"

namespace dynamo::engines {

struct Prompt {
    std::string text;          // of the last user message, or the whole prompt
    std::uint64_t max_tokens;  // UINT64_MAX if there is none

    // Throws Failure with NOT_SUPPORTED or INVALID_REQUEST for what a native engine cannot do.
    static Prompt of(const json::Json &body, const char *engine);
};

// Where the next word of a text ends: a run of white space belongs to the word after it. A code
// point is never split, so a text is the same as its words.
std::size_t word_end(const std::string &text, std::size_t begin);

}  // namespace dynamo::engines
