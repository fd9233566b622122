// SPDX-License-Identifier: Apache-2.0
// A request's OpenAI body, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dynamo {

enum class BodyKind { chat, completion, embedding, data };

struct Body {
    std::string text;  // the whole object, for the engine; or the data
    BodyKind kind = BodyKind::chat;
    std::string model;          // "" if not given
    bool stream = true;         // false: one response with everything
    std::uint32_t n = 1;        // choices
    std::int64_t priority = 0;  // higher is sooner
    // For the limit of tokens in flight. A prompt of text counts a token for four bytes.
    std::uint64_t prompt_tokens = 0;
    std::optional<std::uint64_t> max_tokens;
    bool wants_timing = false;   // in the JSON of the last response
    std::int32_t data_kind = 0;  // a dynamo_data_kind_t, if it is data

    // Throws Failure with INVALID_JSON or INVALID_REQUEST.
    static Body parse(std::string_view text);
    // Throws Failure with INVALID_JSON or INVALID_ARGUMENT.
    static Body of_data(std::int32_t kind, std::string_view bytes);
};

}  // namespace dynamo
