// SPDX-License-Identifier: Apache-2.0
// A model's tokenizer. An engine in Python does the work: each call is a request to it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.hpp"
#include "core/handle.hpp"
#include "core/response.hpp"
#include "core/service.hpp"

namespace dynamo {

class Tokenizer : public std::enable_shared_from_this<Tokenizer> {
  public:
    // Of a tokenizer's configuration, the runtime's that starts its engine. Throws Failure with
    // INVALID_JSON or INVALID_CONFIG.
    static Config parse_config(std::string_view text);

    // Throws Failure.
    explicit Tokenizer(const Config &config);

    // All wait for the engine, and throw Failure.
    std::vector<std::uint32_t> encode(std::string_view text, bool add_special_tokens) const;
    std::string decode(std::span<const std::uint32_t> ids, bool skip_special_tokens) const;
    std::string apply_template(std::string_view chat_json) const;
    const std::string &info() const noexcept { return info_; }

    // --- for detokenizers ---
    // Throws Failure with INVALID_ARGUMENT for an id that the tokenizer cannot have.
    void require_ids(std::span<const std::uint32_t> ids) const;
    std::shared_ptr<Response> ask(std::string command) const;

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
