// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "owner.hpp"

DYNAMO_LLM_BEGIN

/** A view of numbers: a contiguous range, convertible to std::span. */
template <class Number>
class Numbers {
  public:
    /** Makes an empty view. */
    Numbers() = default;
    /** Does not own the numbers. */
    Numbers(const Number *data, std::size_t size) noexcept : data_(data), size_(size) {}

    /** Returns the first number; NULL if there is none. */
    const Number *data() const noexcept { return data_; }
    /** Returns how many there are. */
    std::size_t size() const noexcept { return size_; }
    /** Returns whether there are none. */
    bool empty() const noexcept { return size_ == 0; }
    /** Returns the first. */
    const Number *begin() const noexcept { return data_; }
    /** Returns the position after the last. */
    const Number *end() const noexcept { return data_ + size_; }
    /** Returns one of them; the index is not checked. */
    Number operator[](std::size_t index) const noexcept { return data_[index]; }

  private:
    const Number *data_ = nullptr;
    std::size_t size_ = 0;
};

/** A view of token ids. */
class TokenIds : public Numbers<std::uint32_t> {
  public:
    using Numbers::Numbers;
};

/** A view of the elements of an embedding. */
class Vector : public Numbers<float> {
  public:
    using Numbers::Numbers;
};

/** A tool call that the model requests. The texts belong to the Response. */
struct ToolCall {
    /** Identifies the call: see Chat::tool_result(). "" if the engine has none. */
    std::string_view id;
    /** Name of the tool. */
    std::string_view name;
    /** Arguments as the model wrote them: JSON, unless the answer was cut off. */
    std::string_view arguments;
};

/** The log-probability of a token of the answer, or of an alternative to it. The text belongs to the Response. */
struct Logprob {
    /** Text of the token; "" if the engine does not report it. */
    std::string_view text;
    /** Natural logarithm of the probability; NaN if the engine does not report it. */
    double logprob = 0;
    /** Token id, if it is known. */
    std::optional<std::uint32_t> token_id;
    /** Number of alternatives; 0 for an alternative. */
    std::size_t alternative_count = 0;
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
    /** Returns the reasoning that the engine separated from the text; "" if there is none. */
    std::string_view reasoning() const noexcept {
        std::size_t length = 0;
        const char *const text = dynamo_response_reasoning(get(), &length);
        return text == nullptr ? std::string_view() : std::string_view(text, length);
    }
    /** Returns the tool calls, complete; in a stream, the last response of a choice has all of them. */
    std::vector<ToolCall> tool_calls() const {
        std::vector<ToolCall> calls(dynamo_response_tool_call_count(get()));
        for (std::size_t index = 0; index < calls.size(); ++index) {
            dynamo_tool_call_t call{};
            call.struct_size = sizeof call;
            dynamo_response_tool_call(get(), index, &call);
            calls[index] = {detail::view(call.id), detail::view(call.name),
                            detail::view(call.arguments)};
        }
        return calls;
    }
    /** Returns the number of tokens that have log-probs; 0 if the request did not ask for them. */
    std::size_t logprob_count() const noexcept { return dynamo_response_logprob_count(get()); }
    /** Returns the log-probability of a token, from 0. Errors: INVALID_ARGUMENT (no such token). */
    Returned<Logprob> logprob(std::size_t token) const {
        return logprob_of([&](dynamo_logprob_t &filled) {
            return dynamo_response_logprob(get(), token, &filled);
        });
    }
    /** Returns an alternative to a token, most likely first. Errors: INVALID_ARGUMENT (there is none). */
    Returned<Logprob> alternative(std::size_t token, std::size_t alternative) const {
        return logprob_of([&](dynamo_logprob_t &filled) {
            return dynamo_response_alternative(get(), token, alternative, &filled);
        });
    }
    /** Returns the number of vectors of an answer to an Embedding; 0 for other answers. */
    std::size_t embedding_count() const noexcept { return dynamo_response_embedding_count(get()); }
    /** Returns a vector, in the order of the inputs, from 0. Errors: INVALID_ARGUMENT (no such vector). */
    Returned<Vector> embedding(std::size_t index) const {
        std::size_t dimensions = 0;
        const float *const first = dynamo_response_embedding(get(), index, &dimensions);
        if (dynamo_last_status() != DYNAMO_OK) {
            return detail::failed<Vector>(Error::last());
        }
        return Vector(first, dimensions);
    }
    /** Returns OpenAI's JSON, built at the first call. Errors: INVALID_HANDLE, OUT_OF_MEMORY. */
    Returned<std::string_view> json() const {
        const char *const text = dynamo_response_json(get());
        if (text == nullptr) {
            return detail::failed<std::string_view>(Error::last());
        }
        return std::string_view(text);
    }

  private:
    template <class Get>
    static Returned<Logprob> logprob_of(Get fill) {
        dynamo_logprob_t filled{};
        filled.struct_size = sizeof filled;
        if (fill(filled) != DYNAMO_OK) {
            return detail::failed<Logprob>(Error::last());
        }
        Logprob logprob{{filled.text, filled.text_length},
                        filled.logprob,
                        std::nullopt,
                        filled.alternative_count};
        if (filled.token_id >= 0) {
            logprob.token_id = static_cast<std::uint32_t>(filled.token_id);
        }
        return logprob;
    }
};

DYNAMO_LLM_END
