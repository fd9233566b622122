// SPDX-License-Identifier: Apache-2.0
// Publishes KV events to a cluster. publish() only appends to a queue. Commands carry the queued events to the
// engine in Python, one command at a time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/handle.hpp"
#include "dynamo_llm/kv_events.h"
#include "runtime/config.hpp"
#include "services/service.hpp"
#include "stream/timing.hpp"

namespace dynamo {

// Validated events as JSON.
struct KvEvents {
    std::string json;  // objects, separated by commas
    std::uint64_t events = 0;
    std::uint64_t blocks = 0;
};

class KvPublisher {
  public:
    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static RuntimeConfig parse_config(std::string_view text);

    // Throws Failure.
    explicit KvPublisher(const RuntimeConfig &config);
    ~KvPublisher();
    KvPublisher(const KvPublisher &) = delete;

    // Waits for the engine. Throws Failure.
    std::string info() const;

    // Each appends an event. Throws Failure with INVALID_ARGUMENT.
    void add_stored(KvEvents &events, const dynamo_kv_stored_t &stored) const;
    static void add_removed(KvEvents &events, std::span<const std::uint64_t> hashes);
    static void add_cleared(KvEvents &events);

    // Returns false if the queue is full; then no event was accepted. Throws Failure.
    bool publish(KvEvents events);

    // Waits until all queued events were sent to the engine. Returns false if the deadline passed before. If events
    // failed meanwhile, throws the first failure, once.
    bool flush(std::optional<Clock::time_point> deadline);
    std::string statistics() const;

    // Waits for the engine. Throws Failure.
    std::vector<std::uint64_t> hashes(std::span<const std::uint32_t> tokens, const char *lora_name,
                                      const char *cache_salt) const;

  private:
    struct Queue;

    std::unique_ptr<Service> service_;
    std::uint32_t block_size_ = 0;
    bool relays_ = false;
    std::shared_ptr<Queue> queue_;
};

template <>
struct HandleTraits<KvPublisher> {
    using CType = dynamo_kv_publisher_t;
    static constexpr HandleKind kind = HandleKind::kv_publisher;
};

}  // namespace dynamo
