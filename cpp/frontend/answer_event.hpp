// SPDX-License-Identifier: Apache-2.0
// An event of Dynamo's frontend: a part of an answer with one choice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dynamo::frontend {

// Token counts of a whole request. Not a member of AnswerEvent: Clang 14 could not create it there.
struct AnswerUsage {
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
    std::uint64_t cached_tokens = 0;
};

struct AnswerEvent {
    std::string text;
    std::vector<std::uint32_t> token_ids;
    std::string finish_reason;  // empty if the choice goes on
    std::string delta_json;     // further keys of the delta, such as "tool_calls"; empty if none
    std::optional<AnswerUsage> usage;  // of the whole request
    bool is_error = false;             // the event reports an error instead
    bool is_empty() const noexcept {
        return text.empty() && token_ids.empty() && delta_json.empty();
    }

    // Reads an event into this object, whose memory is reused. Throws ProtocolError.
    void read(std::string_view json);
};

}  // namespace dynamo::frontend
