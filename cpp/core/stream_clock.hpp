// SPDX-License-Identifier: Apache-2.0
// When what happened to a request.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace dynamo {

using Clock = std::chrono::steady_clock;

// In microseconds since the request was sent; -1 if it has not happened.
struct Timing {
    std::int64_t queue_us = -1;        // the engine got it
    std::int64_t first_token_us = -1;  // the engine pushed something
    std::int64_t total_us = -1;        // it ended
};

// Points in time; the epoch if it has not happened.
struct StreamClock {
    Clock::time_point sent{};
    Clock::time_point handed{};
    Clock::time_point first{};
    Clock::time_point last{};
    Clock::time_point ended{};

    Timing timing() const {
        const auto since_sent = [this](Clock::time_point then) -> std::int64_t {
            // One that was cancelled may never have been sent.
            return then == Clock::time_point() || sent == Clock::time_point()
                       ? -1
                       : std::max<std::int64_t>(
                             0, std::chrono::duration_cast<std::chrono::microseconds>(then - sent)
                                    .count());
        };
        return {since_sent(handed), since_sent(first), since_sent(ended)};
    }
};

}  // namespace dynamo
