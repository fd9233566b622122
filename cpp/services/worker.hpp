// SPDX-License-Identifier: Apache-2.0
// Serves an engine to a cluster. An engine in Python does the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/handle.hpp"
#include "dynamo_llm/worker.h"
#include "runtime/config.hpp"
#include "services/service.hpp"

namespace dynamo {

class Worker {
  public:
    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static RuntimeConfig parse_config(std::string_view text);

    // Throws Failure.
    explicit Worker(const RuntimeConfig &config);
    ~Worker();
    Worker(const Worker &) = delete;

    // All wait for the engine, and throw Failure.
    std::string info() const;
    // Returns how many requests were cancelled because the timeout passed. -1: no timeout.
    std::uint64_t shutdown(std::int64_t timeout_ms) const;
    // Returns whether the worker stopped before the timeout.
    bool wait(std::int64_t timeout_ms) const;

    // Does not wait. Throws Failure.
    void publish_load(const dynamo_worker_load_t &load);
    // Starts to shut down the worker, without waiting.
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
