// SPDX-License-Identifier: Apache-2.0
// A piece of an answer on its way to the caller.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/body.hpp"
#include "core/handle.hpp"
#include "core/json.hpp"
#include "core/spare_memory.hpp"
#include "core/stream_clock.hpp"
#include "core/text.hpp"
#include "core/token_ids.hpp"
#include "dynamo_llm.h"

namespace dynamo {

// What all responses of a request have in common. It lives until the stream and all of them have let go.
struct ResponseHead {
    SpareMemory spare;                              // of its responses
    mutable std::atomic<std::uint32_t> holders{1};  // beside it: both are used together
    BodyKind kind = BodyKind::chat;
    bool stream = true;
    bool wants_timing = false;
    std::int64_t created = 0;  // seconds since 1970
    std::string id;
    std::string model;

    void hold() const noexcept { holders.fetch_add(1, std::memory_order_relaxed); }
    void let_go() const noexcept {
        if (holders.fetch_sub(1, std::memory_order_acq_rel) == 1) {
            delete this;
        }
    }
    struct LetGo {
        void operator()(const ResponseHead *head) const noexcept { head->let_go(); }
    };
};

using HeldHead = std::unique_ptr<const ResponseHead, ResponseHead::LetGo>;

struct Usage {
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
    std::uint64_t cached_tokens = 0;
};

// An item of the answer to a request of data.
struct Item {
    std::int32_t kind = 0;  // a dynamo_data_kind_t
    std::string bytes;
};

class Response {
    struct Key {};

  public:
    static std::shared_ptr<Response> create(const ResponseHead *head);
    Response(Key, const ResponseHead *its_head);
    ~Response();

    const ResponseHead *const head;  // held by this response's memory
    std::shared_ptr<Response> next;  // of its stream: the one that was opened after it
    std::uint32_t index = 0;
    bool is_first = false;  // of its choice
    Text text;
    std::size_t tokens = 0;  // may be more than there are ids
    TokenIds token_ids;
    std::string finish_reason;
    // What most responses do not have.
    std::unique_ptr<Usage> usage;
    std::unique_ptr<Timing> timing;     // in the last one of all
    std::unique_ptr<json::Json> delta;  // more keys of the delta, the choice or an embedding
    std::unique_ptr<json::Json> logprobs;
    std::unique_ptr<std::vector<Item>> items;

    // Add what an engine said as JSON objects.
    void add_delta(json::Json more);
    void add_logprobs(json::Json more);
    void add_item(const dynamo_data_t &data);

    // Nothing in it but, perhaps, tokens whose bytes are the start of a code point (at most three).
    bool is_empty() const {
        return text.empty() && token_ids.empty() && finish_reason.empty() && tokens <= 3 &&
               delta == nullptr && logprobs == nullptr && items == nullptr;
    }

    // The OpenAI object, built at the first call. Thread-safe.
    const std::string &json();

  private:
    json::OrderedJson build() const;
    json::OrderedJson build_answer() const;
    json::OrderedJson build_items() const;

    std::once_flag json_built_;
    std::unique_ptr<const std::string> json_;
};

template <>
struct HandleTraits<Response> {
    using CType = dynamo_response_t;
    static constexpr HandleKind kind = HandleKind::response;
};

}  // namespace dynamo
