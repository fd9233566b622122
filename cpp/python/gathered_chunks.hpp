// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/text.hpp"
#include "python/api.hpp"

namespace dynamo::python {

// Gathers chunks that an engine yields without a pause, and pushes them into the stream as one. They are only
// microseconds apart, so this does not noticeably delay the first one.
class GatheredChunks {
  public:
    bool is_empty() const noexcept { return tokens_ == 0; }

    // Returns whether a chunk can be gathered: it has only text and token IDs, has IDs if the gathered chunks
    // have them, and fits.
    bool takes(const dynamo_chunk_t &chunk) const noexcept {
        const std::size_t count = chunk.token_count == 0 ? 1 : chunk.token_count;
        return chunk.delta_json == nullptr && chunk.logprobs_json == nullptr &&
               chunk.data == nullptr && chunk.finish_reason == nullptr && chunk.index == 0 &&
               (chunk.text_length > 0 || chunk.token_count > 0) &&
               (is_empty() || has_ids_ == (chunk.token_count > 0)) &&
               chunk.text_length <= most_bytes - bytes_ && count <= most_tokens - tokens_;
    }

    // Requires takes(chunk).
    void add(const dynamo_chunk_t &chunk) noexcept {
        copy_short(text_ + bytes_, chunk.text, chunk.text_length);
        bytes_ += chunk.text_length;
        for (std::size_t i = 0; i < chunk.token_count; ++i) {
            ids_[tokens_ + i] = chunk.token_ids[i];
        }
        has_ids_ = chunk.token_count > 0;
        tokens_ += has_ids_ ? chunk.token_count : 1;
    }

    dynamo_chunk_t chunk() const noexcept {
        dynamo_chunk_t all{};
        all.struct_size = sizeof all;
        all.text = text_;
        all.text_length = bytes_;
        all.token_ids = has_ids_ ? ids_ : nullptr;
        all.token_count = tokens_;
        return all;
    }

    void clear() noexcept { tokens_ = bytes_ = 0; }

  private:
    static constexpr std::size_t most_tokens = 64;
    static constexpr std::size_t most_bytes = 1024;

    std::size_t tokens_ = 0;
    std::size_t bytes_ = 0;
    bool has_ids_ = false;
    std::uint32_t ids_[most_tokens];
    char text_[most_bytes];
};

}  // namespace dynamo::python
