// SPDX-License-Identifier: Apache-2.0
// The validated body of a request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/budget.hpp"
#include "stream/response.hpp"

namespace dynamo {

struct Body {
    std::string text;  // the whole object, for the engine; or the payload
    BodyKind kind = BodyKind::chat;
    std::string model;                     // "" if not given
    std::string id;                        // of the response's JSON; "": chosen by the library
    std::vector<std::string> engine_keys;  // keys that are unknown to the library
    bool stream = true;                    // false: one response with the whole answer
    std::optional<bool> include_usage;     // of "stream_options"
    std::uint32_t n = 1;                   // choices for each prompt
    std::uint32_t prompts = 1;             // of a completion; each has its choices
    std::int64_t priority = 0;             // higher is scheduled first
    // For "limits.max_tokens". A text prompt counts one token for four bytes.
    std::uint64_t prompt_tokens = 0;
    std::optional<std::uint64_t> max_tokens;
    // Of the longest prompt (a request may have several): its token ids, or the bytes of text that certainly reach the
    // model.
    std::uint64_t longest_ids = 0;
    std::uint64_t longest_text = 0;
    bool may_truncate = false;  // "truncate_prompt_tokens"
    Cost cost;
    bool wants_timing = false;      // in the JSON of the last response
    std::int32_t payload_kind = 0;  // a dynamo_data_kind_t, for a raw request
    // Of the kind `responses`, whose text is a chat: what the answer repeats of the body.
    std::shared_ptr<const json::OrderedJson> settings;
    std::string call;  // name of a control call, whose arguments are the text; "": a request

    // The choices of all prompts: those of prompt p have the numbers from p * n on.
    std::uint32_t choices() const { return prompts * n; }

    // Throws Failure with INVALID_JSON or INVALID_REQUEST.
    static Body parse(std::string_view text);
    // As parse(), for a whole answer: "stream" becomes false.
    static Body parse_whole(std::string_view text);
    // Throws Failure with INVALID_REQUEST if the engine does not declare one of engine_keys.
    void check_engine_keys(const std::vector<std::string> &declared,
                           const std::string &engine) const;
    // Throws Failure with INVALID_JSON or INVALID_ARGUMENT.
    static Body raw(std::int32_t kind, std::string_view bytes);
    // Makes a control call: a raw request for one JSON payload. "model" of the arguments selects the model. Throws
    // Failure with INVALID_ARGUMENT or INVALID_JSON.
    static Body control(const char *name, std::string_view arguments);
    bool is_call() const { return !call.empty(); }

  private:
    static Body parse_as(BodyKind kind, const json::Json &object, std::string_view text);
};

}  // namespace dynamo
