// SPDX-License-Identifier: Apache-2.0
// What is counted of the requests to one model, and its text for Prometheus.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/response.hpp"
#include "core/stream_clock.hpp"

namespace dynamo {

// Durations in buckets. Any thread may observe.
class Histogram {
  public:
    // Upper bounds in seconds: from a token of a fast engine to an answer of minutes.
    static constexpr std::array bounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                          0.025,  0.05,    0.1,    0.25,  0.5,    1.0,   2.5,
                                          5.0,    10.0,    25.0,   50.0,  100.0};

    void observe(Clock::duration duration, std::uint64_t times = 1) noexcept;
    // Lines of a metric; labels as `model="a"`.
    void write(std::string &out, const char *name, const std::string &labels) const;

  private:
    std::array<std::atomic<std::uint64_t>, bounds.size() + 1> counts_{};
    std::atomic<std::uint64_t> nanoseconds_{0};
};

class Metrics {
  public:
    void count_refusal(std::int32_t status) noexcept { count(status); }
    void count_end(std::int32_t status, const Timing &timing) noexcept;
    // pushed: tokens of the answer that were counted already.
    void count_usage(const Usage &usage, std::uint64_t pushed) noexcept;
    void count_full() noexcept { full_.fetch_add(1, std::memory_order_relaxed); }
    void count_tokens(std::size_t tokens) noexcept {
        completion_tokens_.fetch_add(tokens, std::memory_order_relaxed);
    }

    Histogram queue;
    Histogram first_token;
    Histogram inter_token;

    // Of one model, with numbers that others keep.
    struct Source {
        std::string model;
        std::string engine;
        const Metrics *metrics;
        std::size_t in_flight;
        std::size_t queued;
    };
    // The text exposition format of Prometheus, version 0.0.4.
    static std::string write(const std::vector<Source> &sources);

  private:
    void count(std::int32_t status) noexcept;

    static constexpr int statuses = 64;
    std::array<std::atomic<std::uint64_t>, statuses> requests_{};  // by -status; 0 is END
    std::atomic<std::uint64_t> prompt_tokens_{0};
    std::atomic<std::uint64_t> cached_tokens_{0};
    std::atomic<std::uint64_t> completion_tokens_{0};
    std::atomic<std::uint64_t> full_{0};
    Histogram total_;
};

}  // namespace dynamo
