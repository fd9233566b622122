// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "owner.hpp"

DYNAMO_LLM_BEGIN

/** A view of token ids: a contiguous range, convertible to std::span. */
class TokenIds {
  public:
    TokenIds() = default;
    /** Does not own the ids. */
    TokenIds(const std::uint32_t *data, std::size_t size) noexcept : data_(data), size_(size) {}

    /** Returns the first id; NULL if there is none. */
    const std::uint32_t *data() const noexcept { return data_; }
    /** Returns the number of ids. */
    std::size_t size() const noexcept { return size_; }
    /** Returns whether there are none. */
    bool empty() const noexcept { return size_ == 0; }
    /** Returns the first. */
    const std::uint32_t *begin() const noexcept { return data_; }
    /** Returns the position after the last. */
    const std::uint32_t *end() const noexcept { return data_ + size_; }
    /** Returns one of them; the index is not checked. */
    std::uint32_t operator[](std::size_t index) const noexcept { return data_[index]; }

  private:
    const std::uint32_t *data_ = nullptr;
    std::size_t size_ = 0;
};

/** A payload in a Response to a raw request. */
struct Item {
    /** Its bytes. */
    std::string_view bytes;
    /** Whether they are a JSON text. */
    bool is_json = false;
};

/** Token counts of a request. */
struct Usage {
    /** Tokens of the prompt. */
    std::uint64_t prompt_tokens = 0;
    /** Tokens of the answer, all choices together. */
    std::uint64_t completion_tokens = 0;
    /** Those of prompt_tokens that came from a prefix cache. */
    std::uint64_t cached_tokens = 0;
};

/** Timestamps of a request since it was sent; empty for what has not happened. */
struct Timing {
    /** The engine began to work on the request. Until then, it waited for a slot, or in the engine's own queue. */
    std::optional<std::chrono::microseconds> queue;
    /** The engine pushed the first part of the answer (TTFT). */
    std::optional<std::chrono::microseconds> first_token;
    /** The request ended. */
    std::optional<std::chrono::microseconds> total;
};

namespace detail {
inline Usage usage(const dynamo_usage_t &counts) noexcept {
    return {counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens};
}
inline Timing timing(const dynamo_timing_t &times) noexcept {
    const auto one = [](std::int64_t microseconds) -> std::optional<std::chrono::microseconds> {
        if (microseconds < 0) {
            return std::nullopt;
        }
        return std::chrono::microseconds(microseconds);
    };
    return {one(times.queue_us), one(times.first_token_us), one(times.total_us)};
}
}  // namespace detail

/** Everything that had arrived of one choice when it was received. With "stream": false it has the first choice, and
 * all of them in json(); the last response of a stream with "include_usage" has only usage(). A response that
 * was moved from is empty: it has no text, no tokens, and no finish reason. */
class Response : public Owner<dynamo_response_t, dynamo_free> {
  public:
    using Owner::Owner;
    Response() noexcept : Owner(nullptr) {}

    /** Returns the text, UTF-8; it never splits a code point. */
    std::string_view text() const noexcept {
        std::size_t length = 0;
        const char *const text = dynamo_response_text(get(), &length);
        return text == nullptr ? std::string_view() : std::string_view(text, length);
    }
    /** Returns the token ids; empty if the engine provides none. */
    TokenIds token_ids() const noexcept {
        std::size_t count = 0;
        const std::uint32_t *const ids = dynamo_response_token_ids(get(), &count);
        return ids == nullptr ? TokenIds() : TokenIds(ids, count);
    }
    /** Returns the number of the choice, from 0. */
    std::uint32_t index() const noexcept { return dynamo_response_index(get()); }
    /** Returns "stop", "length", ... in the last response of a choice, otherwise "". */
    std::string_view finish_reason() const noexcept {
        return detail::view(dynamo_response_finish_reason(get()));
    }
    /** Returns the token counts: in the last response, if the engine counts, whatever "stream_options" says. */
    std::optional<Usage> usage() const noexcept {
        dynamo_usage_t counts{};
        counts.struct_size = sizeof counts;
        if (dynamo_response_usage(get(), &counts) != DYNAMO_OK) {
            return std::nullopt;
        }
        return detail::usage(counts);
    }
    /** Returns the timestamps: only in the very last response. */
    std::optional<Timing> timing() const noexcept {
        dynamo_timing_t times{};
        times.struct_size = sizeof times;
        if (dynamo_response_timing(get(), &times) != DYNAMO_OK) {
            return std::nullopt;
        }
        return detail::timing(times);
    }
    /** Returns the number of payloads; 0 unless it was a raw request. */
    std::size_t item_count() const noexcept { return dynamo_response_item_count(get()); }
    /** Returns a payload, from 0. The bytes belong to this response. Errors: INVALID_ARGUMENT (no such payload). */
    Returned<Item> item(std::size_t index) const {
        dynamo_data_t data{};
        if (dynamo_response_item(get(), index, &data) != DYNAMO_OK) {
            return detail::failed<Item>(Error::last());
        }
        return Item{{static_cast<const char *>(data.bytes), data.length},
                    data.kind == DYNAMO_DATA_JSON};
    }
    /** Returns OpenAI's JSON, built at the first call. Errors: INVALID_HANDLE, OUT_OF_MEMORY. */
    Returned<std::string_view> json() const {
        const char *const text = dynamo_response_json(get());
        if (text == nullptr) {
            return detail::failed<std::string_view>(Error::last());
        }
        return std::string_view(text);
    }
};

DYNAMO_LLM_END
