// SPDX-License-Identifier: Apache-2.0
// A part of an answer on its way to the caller.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/handle.hpp"
#include "base/json.hpp"
#include "base/spare_memory.hpp"
#include "base/text.hpp"
#include "dynamo_llm.h"
#include "stream/delta.hpp"
#include "stream/response_values.hpp"
#include "stream/timing.hpp"
#include "stream/token_ids.hpp"

namespace dynamo {

// The kind of a request, which also determines the JSON of its responses. An engine gets the body of `responses`
// (OpenAI's Responses API) as a chat.
enum class BodyKind {
    chat,
    completion,
    embedding,
    rerank,
    score,
    classification,
    responses,
    raw,
};

// Whether the engine answers with the text, the tool calls, and the reasoning of a message.
constexpr bool is_chat(BodyKind kind) {
    return kind == BodyKind::chat || kind == BodyKind::responses;
}

// What all responses of a request have in common. Lives until the stream and all responses have released it.
struct ResponseHead {
    SpareMemory spare;  // for its responses
    mutable std::atomic<std::uint32_t> references{
        1};  // next to `spare`, because both are used together
    BodyKind kind = BodyKind::chat;
    bool stream = true;
    bool wants_timing = false;
    // "stream_options.include_usage": whether the token counts come in a chunk of their own; if it is not given, they
    // come in the last chunk.
    std::optional<bool> include_usage;
    std::uint32_t choices = 1;
    std::int64_t created = 0;  // seconds since 1970
    std::string id;
    std::string model;
    // Of a body of the kind `responses`: what its answer repeats of it.
    std::shared_ptr<const json::OrderedJson> settings;

    void retain() const noexcept { references.fetch_add(1, std::memory_order_relaxed); }
    void release() const noexcept {
        if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            delete this;
        }
    }
    struct Releaser {
        void operator()(const ResponseHead *head) const noexcept { head->release(); }
    };
};

using ResponseHeadPtr = std::unique_ptr<const ResponseHead, ResponseHead::Releaser>;

struct Usage {
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
    std::uint64_t cached_tokens = 0;
};

// An item of the answer to a raw request.
struct Payload {
    std::int32_t kind = 0;  // a dynamo_data_kind_t
    std::string bytes;
};

class Response {
    struct Key {};

  public:
    static std::shared_ptr<Response> create(const ResponseHead *head);
    Response(Key, const ResponseHead *its_head);
    ~Response();

    const ResponseHead *const head;  // kept alive by this response's memory
    std::shared_ptr<Response> next;  // in the list of its stream
    std::uint32_t index = 0;
    bool is_first = false;        // of its choice
    bool is_after_delta = false;  // something other than text came before, in its choice
    bool has_choice = true;       // false: only the usage, as "include_usage" requests
    Text text;
    std::size_t tokens = 0;  // may exceed the number of ids
    TokenIds token_ids;
    std::string finish_reason;
    // Allocated separately, because most responses do not have them.
    std::unique_ptr<Usage> usage;
    std::unique_ptr<Timing> timing;     // in the last response
    std::unique_ptr<json::Json> delta;  // more keys of the delta, the choice or an embedding
    std::unique_ptr<json::Json> logprobs;
    std::unique_ptr<const std::vector<delta::ToolCall>> tool_calls;  // in the last of its choice
    std::unique_ptr<std::vector<Payload>> payloads;
    std::unique_ptr<json::OrderedJson> events;  // of a streamed answer of the kind `responses`
    // The other choices of a whole answer, by index. `tokens` includes theirs.
    std::unique_ptr<std::vector<std::shared_ptr<Response>>> more_choices;

    // Merge what an engine pushed.
    void add_delta(json::Json more);
    void add_logprobs(json::Json more);
    void add_payload(const dynamo_data_t &data);

    // Whether the response has nothing to deliver. Up to three tokens may be the start of an incomplete code point.
    bool is_empty() const {
        return text.empty() && token_ids.empty() && finish_reason.empty() && tokens <= 3 &&
               delta == nullptr && logprobs == nullptr && payloads == nullptr;
    }

    // Returns the OpenAI object, which the first call builds. Thread-safe.
    const std::string &json();
    // Returns log-probs and embeddings, which the first call reads. Thread-safe.
    const ResponseValues &values() const;
    // Returns the reasoning, which this response owns; "" if there is none.
    std::string_view reasoning() const;

  private:
    json::OrderedJson build() const;
    json::OrderedJson build_answer() const;
    json::OrderedJson build_choices() const;
    json::OrderedJson build_choice() const;
    json::OrderedJson build_message() const;
    json::OrderedJson build_list() const;
    json::OrderedJson build_responses() const;
    json::OrderedJson build_usage() const;
    json::OrderedJson build_payloads() const;

    std::once_flag json_built_;
    mutable std::once_flag values_read_;
    std::unique_ptr<const std::string> json_;
    mutable std::unique_ptr<const ResponseValues> values_;
};

template <>
struct HandleTraits<Response> {
    using CType = dynamo_response_t;
    static constexpr HandleKind kind = HandleKind::response;
};

}  // namespace dynamo
