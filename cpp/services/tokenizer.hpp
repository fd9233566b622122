// SPDX-License-Identifier: Apache-2.0
// A model's tokenizer. An engine in Python does the work: each call is a request to the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/handle.hpp"
#include "runtime/config.hpp"
#include "services/service.hpp"
#include "stream/response.hpp"

namespace dynamo {

class Tokenizer : public std::enable_shared_from_this<Tokenizer> {
  public:
    // Converts a tokenizer's configuration to that of the runtime that runs its engine. Throws Failure with
    // INVALID_JSON or INVALID_CONFIG.
    static RuntimeConfig parse_config(std::string_view text);

    // Throws Failure.
    explicit Tokenizer(const RuntimeConfig &config);

    // All wait for the engine, and throw Failure.
    std::vector<std::uint32_t> encode(std::string_view text, bool add_special_tokens) const;
    std::string decode(std::span<const std::uint32_t> ids, bool skip_special_tokens) const;
    std::string apply_template(std::string_view chat_json) const;
    const std::string &info() const noexcept { return info_; }

    // --- for detokenizers ---
    // Throws Failure with INVALID_ARGUMENT for a token ID outside the tokenizer's vocabulary.
    void require_ids(std::span<const std::uint32_t> ids) const;
    std::shared_ptr<Response> ask(std::string command) const;
    void require_may_wait() const { service_.require_may_wait(); }

  private:
    Service service_;
    std::string info_;
    std::uint32_t largest_id_ = 0;
};

template <>
struct HandleTraits<Tokenizer> {
    using CType = dynamo_tokenizer_t;
    static constexpr HandleKind kind = HandleKind::tokenizer;
};

}  // namespace dynamo
