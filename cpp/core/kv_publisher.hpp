// SPDX-License-Identifier: Apache-2.0
// KV events on their way to a cluster. Those who publish only append to a queue; a command takes some of
// it to the engine in Python when the one before is done.
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

#include "core/config.hpp"
#include "core/handle.hpp"
#include "core/service.hpp"
#include "core/stream_clock.hpp"
#include "dynamo_llm/cluster.h"

namespace dynamo {

// Events as text, checked.
struct KvEvents {
    std::string json;  // objects, with commas between them
    std::uint64_t events = 0;
    std::uint64_t blocks = 0;
};

class KvPublisher {
  public:
    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static Config parse_config(std::string_view text);

    // Throws Failure.
    explicit KvPublisher(const Config &config);
    ~KvPublisher();
    KvPublisher(const KvPublisher &) = delete;

    // Waits. Throws Failure.
    std::string info() const;

    // Append an event. Throw Failure with INVALID_ARGUMENT.
    void add_stored(KvEvents &events, const dynamo_kv_stored_t &stored) const;
    static void add_removed(KvEvents &events, std::span<const std::uint64_t> hashes);
    static void add_cleared(KvEvents &events);

    // False if the queue is full; then nothing was taken. Throws Failure.
    bool publish(KvEvents events);

    // False if not all was handed over in time. Throws what failed meanwhile, once.
    bool flush(std::optional<Clock::time_point> deadline);
    dynamo_kv_statistics_t statistics() const;

    // Waits. Throws Failure.
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
