// SPDX-License-Identifier: Apache-2.0
// The queue of a KV publisher.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "services/service.hpp"
#include "stream/timing.hpp"

namespace dynamo {

// Events as JSON.
struct KvEvents {
    std::string json;  // objects, separated by commas
    std::uint64_t events = 0;
    std::uint64_t blocks = 0;

    void append(const KvEvents &more) {
        json += events > 0 ? "," : "";
        json += more.json;
        events += more.events;
        blocks += more.blocks;
    }
};

// Publishing only appends to the queue; commands carry the events to the engine in Python, one command at a time.
// Shared with the handlers of answers, because an answer may arrive after the publisher was destroyed.
class KvEventQueue : public std::enable_shared_from_this<KvEventQueue> {
  public:
    KvEventQueue(const Service &service, std::uint64_t bound) : service_(&service), bound_(bound) {}

    // Returns false if the queue is full; then no event was accepted.
    bool publish(KvEvents given);
    // Waits until all events were sent to the engine. Returns false if the deadline passed before. If events failed
    // meanwhile, throws the first failure, once.
    bool flush(std::optional<Clock::time_point> deadline);
    std::string statistics();

    // Sends no more commands.
    void close() {
        const std::lock_guard lock(mutex_);
        service_ = nullptr;
    }

  private:
    void on_answer(const KvEvents &events, const Error *error, const std::string &answer);

    // These require mutex_.
    void send_next();
    void fail(const Error &error, const KvEvents &events);
    // Unlocks mutex_ before it logs a failure: the log callback may call the publisher, or wait for a lock whose
    // owner calls the publisher.
    void unlock_and_log(std::unique_lock<std::mutex> &lock);

    std::mutex mutex_;
    std::condition_variable idle_;
    const Service *service_;  // nullptr once the publisher is destroyed
    const std::uint64_t bound_;
    std::deque<KvEvents> waiting_;
    bool is_busy_ = false;
    std::uint64_t queued_events_ = 0;
    std::uint64_t queued_blocks_ = 0;
    std::uint64_t published_ = 0;
    std::uint64_t failed_ = 0;
    std::uint64_t stored_ = 0;
    std::optional<Error> failure_;
    std::string unlogged_;
};

}  // namespace dynamo
