// SPDX-License-Identifier: Apache-2.0
// Selects workers for requests that the caller sends itself. An engine in Python does the work.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/handle.hpp"
#include "dynamo_llm/router.h"
#include "runtime/config.hpp"
#include "services/service.hpp"

namespace dynamo {

// A selected worker.
struct Chosen {
    std::uint64_t worker_id = 0;
    std::uint32_t data_parallel_rank = 0;
    std::uint32_t overlap_blocks = 0;
    std::optional<std::string> address;
};

struct Selection {
    std::optional<Chosen> worker;
    std::optional<Chosen> prefill;
    std::vector<std::uint32_t> token_ids;
};

class Router {
  public:
    using Tokens = std::span<const std::uint32_t>;
    using Options = dynamo_route_options_t;

    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static RuntimeConfig parse_config(std::string_view text);

    // Throws Failure.
    explicit Router(const RuntimeConfig &config);
    Router(const Router &) = delete;

    const std::string &info() const noexcept { return info_; }

    // All wait for the engine, and throw Failure.
    Selection select(Tokens tokens, const Options &options) const;
    Selection select_body(std::string_view request_json, const Options &options) const;
    void reserve(const char *request_id, const dynamo_selection_t &selection,
                 const Options &options) const;
    void prefill_complete(const char *request_id) const;
    void output_block(const char *request_id, double decay) const;
    void free(const char *request_id) const;
    std::string loads(Tokens tokens, const Options &options) const;
    std::string overlaps(Tokens tokens, const Options &options) const;
    std::string workers() const;
    void upsert_worker(std::string_view worker_json) const;
    void delete_worker(std::uint64_t worker_id) const;

  private:
    Service service_;
    std::string info_;
};

template <>
struct HandleTraits<Router> {
    using CType = dynamo_router_t;
    static constexpr HandleKind kind = HandleKind::router;
};

}  // namespace dynamo
