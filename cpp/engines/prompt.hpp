// SPDX-License-Identifier: Apache-2.0
// Reads the parts of a request that the native engines use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.hpp"

namespace dynamo::engines {

struct Prompt {
    std::string text;          // the last user message, or the whole prompt
    std::uint64_t max_tokens;  // UINT64_MAX if the request has no limit

    // Throws Failure with NOT_SUPPORTED or INVALID_REQUEST for requests that a native engine cannot serve.
    static Prompt of(const json::Json &body, const char *engine);
};

// Checks whether a content part of this type has text. "input_text" and "output_text" come from OpenAI's
// Responses API.
bool is_text_part(std::string_view type);

// Returns the end of the next word of a text. White space belongs to the word after it. Code points are never
// split, so the concatenated words equal the text.
std::size_t word_end(const std::string &text, std::size_t begin);

}  // namespace dynamo::engines
