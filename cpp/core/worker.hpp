// SPDX-License-Identifier: Apache-2.0
// An engine that is served to a cluster. An engine in Python does the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/config.hpp"
#include "core/handle.hpp"
#include "core/service.hpp"
#include "dynamo_llm/cluster.h"

namespace dynamo {

class Worker {
  public:
    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static Config parse_config(std::string_view text);

    // Throws Failure.
    explicit Worker(const Config &config);
    ~Worker();
    Worker(const Worker &) = delete;

    // All wait for the engine, and throw Failure.
    std::string info() const;
    // How many requests were cancelled because the time was up. -1 is for ever.
    std::uint64_t shutdown(std::int64_t timeout_ms) const;
    // Whether it stopped within the time.
    bool wait(std::int64_t timeout_ms) const;

    // Does not wait. Throws Failure.
    void publish_load(const dynamo_worker_load_t &load);
    // Has it stop, soon.
    void abandon();

  private:
    struct Loads;

    std::unique_ptr<Service> service_;
    std::shared_ptr<Loads> loads_;
};

template <>
struct HandleTraits<Worker> {
    using CType = dynamo_worker_t;
    static constexpr HandleKind kind = HandleKind::worker;
};

}  // namespace dynamo
