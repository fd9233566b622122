// SPDX-License-Identifier: Apache-2.0
// Counters of the requests to one model. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stream/response.hpp"
#include "stream/timing.hpp"

namespace dynamo {

// A histogram of durations.
class Histogram {
  public:
    // Upper bounds of the buckets in seconds: from a token of a fast engine to an answer that takes minutes.
    static constexpr std::array bounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                          0.025,  0.05,    0.1,    0.25,  0.5,    1.0,   2.5,
                                          5.0,    10.0,    25.0,   50.0,  100.0};

    void observe(Clock::duration duration, std::uint64_t times = 1) noexcept;

    // The number of durations in (bounds[i - 1], bounds[i]]; i == bounds.size(): above all bounds.
    std::uint64_t count(std::size_t i) const noexcept {
        return counts_[i].load(std::memory_order_relaxed);
    }
    std::uint64_t nanoseconds() const noexcept {
        return nanoseconds_.load(std::memory_order_relaxed);
    }

  private:
    std::array<std::atomic<std::uint64_t>, bounds.size() + 1> counts_{};
    std::atomic<std::uint64_t> nanoseconds_{0};
};

class Counters {
  public:
    static constexpr int statuses = 64;  // more than there are statuses

    // Counts a request by the status with which it ended, or was refused.
    void count(std::int32_t status) noexcept;
    void count_end(std::int32_t status, const Timing &timing) noexcept;
    // pushed: completion tokens that count_tokens() has already counted.
    void count_usage(const Usage &usage, std::uint64_t pushed) noexcept;
    void count_full(std::uint64_t times) noexcept {
        full.fetch_add(times, std::memory_order_relaxed);
    }
    void count_tokens(std::size_t tokens) noexcept {
        completion_tokens.fetch_add(tokens, std::memory_order_relaxed);
    }

    Histogram queue;
    Histogram first_token;
    Histogram inter_token;
    Histogram total;
    std::array<std::atomic<std::uint64_t>, statuses> requests{};  // by -status; 0 is END
    std::atomic<std::uint64_t> prompt_tokens{0};
    std::atomic<std::uint64_t> cached_tokens{0};
    std::atomic<std::uint64_t> completion_tokens{0};
    std::atomic<std::uint64_t> full{0};
};

}  // namespace dynamo
