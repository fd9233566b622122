// SPDX-License-Identifier: Apache-2.0
// The clock, and when a request was sent, began, produced tokens and ended.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

namespace dynamo {

using Clock = std::chrono::steady_clock;

// Waits until a condition holds. Returns false if it does not hold at a point in time; without one, there is no limit.
template <class Condition>
bool wait_until(std::condition_variable &changed, std::unique_lock<std::mutex> &lock,
                std::optional<Clock::time_point> until, Condition condition) {
    if (until) {
        return changed.wait_until(lock, *until, condition);
    }
    changed.wait(lock, condition);
    return true;
}

inline std::int64_t seconds_since_1970() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

// In microseconds since the request was sent; -1 for what has not happened.
struct Timing {
    std::int64_t queue_us = -1;        // the engine began to work on it
    std::int64_t first_token_us = -1;  // the engine pushed something
    std::int64_t total_us = -1;        // it ended
};

// The epoch stands for what has not happened.
struct Timestamps {
    Clock::time_point sent{};
    Clock::time_point begun{};
    Clock::time_point first_token{};
    Clock::time_point last_token{};
    Clock::time_point ended{};

    Timing timing() const {
        const auto since_sent = [this](Clock::time_point then) -> std::int64_t {
            // A request that was cancelled early was never sent.
            return then == Clock::time_point() || sent == Clock::time_point()
                       ? -1
                       : std::max<std::int64_t>(
                             0, std::chrono::duration_cast<std::chrono::microseconds>(then - sent)
                                    .count());
        };
        return {since_sent(begun), since_sent(first_token), since_sent(ended)};
    }
};

}  // namespace dynamo
