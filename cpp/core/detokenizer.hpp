// SPDX-License-Identifier: Apache-2.0
// A text that comes token by token.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/tokenizer.hpp"

namespace dynamo {

class Detokenizer {
  public:
    Detokenizer(std::shared_ptr<Tokenizer> tokenizer, bool skip_special_tokens)
        : tokenizer_(std::move(tokenizer)), skips_special_tokens_(skip_special_tokens) {}

    // Both wait for the engine, and throw Failure; then nothing has changed.
    std::string add(std::span<const std::uint32_t> ids);
    std::string finish();

  private:
    std::string advance(std::span<const std::uint32_t> ids, bool is_last);

    const std::shared_ptr<Tokenizer> tokenizer_;
    const bool skips_special_tokens_;

    std::mutex mutex_;  // held while the engine works: one step after the other
    // What the engine needs to go on, a few numbers: runtime/tail.py knows what they mean. Empty at the
    // beginning of a text.
    std::vector<std::uint32_t> tail_;
};

template <>
struct HandleTraits<Detokenizer> {
    using CType = dynamo_detokenizer_t;
    static constexpr HandleKind kind = HandleKind::detokenizer;
};

}  // namespace dynamo
