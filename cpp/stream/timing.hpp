// SPDX-License-Identifier: Apache-2.0
// The clock, and when a request was sent, began, produced tokens and ended.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace dynamo {

using Clock = std::chrono::steady_clock;

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
