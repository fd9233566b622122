// SPDX-License-Identifier: Apache-2.0
// Turns token IDs into text incrementally.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "services/tokenizer.hpp"

namespace dynamo {

class Detokenizer {
  public:
    Detokenizer(std::shared_ptr<Tokenizer> tokenizer, bool skip_special_tokens)
        : tokenizer_(std::move(tokenizer)), skips_special_tokens_(skip_special_tokens) {}

    // Both wait for the engine. On failure they throw Failure and leave the state unchanged.
    std::string add(std::span<const std::uint32_t> ids);
    std::string finish();

  private:
    std::string advance(std::span<const std::uint32_t> ids, bool is_last);

    const std::shared_ptr<Tokenizer> tokenizer_;
    const bool skips_special_tokens_;

    std::mutex mutex_;  // held during a call to the engine: calls are serialized
    // The engine's state between calls, a few dozen numbers that runtime/pipeline/detokenizer.py defines. Empty at
    // the beginning of a text.
    std::vector<std::uint32_t> tail_;
};

template <>
struct HandleTraits<Detokenizer> {
    using CType = dynamo_detokenizer_t;
    static constexpr HandleKind kind = HandleKind::detokenizer;
};

}  // namespace dynamo
