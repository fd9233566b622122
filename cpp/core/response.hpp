// SPDX-License-Identifier: Apache-2.0
// A piece of an answer on its way to the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/body.hpp"
#include "core/handle.hpp"
#include "core/json.hpp"
#include "core/stream_clock.hpp"
#include "dynamo_llm.h"

namespace dynamo {

// What all responses of a request have in common.
struct ResponseHead {
    std::string id;
    std::string model;
    BodyKind kind = BodyKind::chat;
    bool stream = true;
    bool wants_timing = false;
    std::int64_t created = 0;  // seconds since 1970
};

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
  public:
    Response();
    ~Response();

    std::shared_ptr<const ResponseHead> head;
    std::uint32_t index = 0;
    bool is_first = false;  // of its choice
    std::string text;
    std::vector<std::uint32_t> token_ids;
    std::size_t tokens = 0;  // may be more than there are ids
    std::string finish_reason;
    std::optional<Usage> usage;
    std::optional<Timing> timing;       // in the last one of all
    std::unique_ptr<json::Json> delta;  // more keys of the delta, the choice or an embedding
    std::unique_ptr<json::Json> logprobs;
    std::unique_ptr<std::vector<Item>> items;  // most responses have none

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
    std::string json_;
};

template <>
struct HandleTraits<Response> {
    using CType = dynamo_response_t;
    static constexpr HandleKind kind = HandleKind::response;
};

}  // namespace dynamo
