// SPDX-License-Identifier: Apache-2.0
// An adaptive timed poll, by which a reader waits for an event that is expected soon.
//
// Waking a thread costs the thread that wakes it microseconds; an engine that produces a token every microsecond would
// do little else. So a reader that was woken soon after it fell asleep polls the next time: it waits for a fixed
// interval, and is woken earlier only for a reason (the stream is nearly full, or it ended). Several successful polls
// in a row lengthen the interval, up to a millisecond; a single burst does not. After an unsuccessful poll the reader
// sleeps.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "stream/timing.hpp"

namespace dynamo {

class TimedPoll {
  public:
    static constexpr std::chrono::microseconds shortest{50};
    static constexpr std::chrono::microseconds longest{1000};

    // How long to poll; zero: sleep until woken.
    std::chrono::microseconds interval() const noexcept {
        return std::chrono::microseconds(interval_us_);
    }

    // The reader slept that long before something came.
    void on_woken(Clock::duration duration) noexcept {
        successes_ = 0;
        if (sleeps_left_ > 0) {
            --sleeps_left_;
        } else if (duration < 2 * shortest) {
            interval_us_ = static_cast<std::uint16_t>(shortest.count());
            return;
        }
        interval_us_ = 0;
    }

    // The reader polled, and found something or not.
    void on_polled(bool found) noexcept {
        if (!found) {
            interval_us_ = 0;
        } else if (++successes_ >= successes_before_growth) {
            successes_ = successes_before_growth;
            interval_us_ = static_cast<std::uint16_t>(
                std::min<std::int64_t>(2 * interval_us_, longest.count()));
        }
    }

    // For a queue, after a poll that found that many requests: limits the interval to what they are worth. A wake-up
    // costs about us_per_request; and a program that sends its next request when it has the answer to the last one
    // loses the rest of the interval.
    void limit_to(std::size_t found) noexcept {
        const std::size_t max_us = found * us_per_request;
        if (max_us < static_cast<std::size_t>(shortest.count())) {
            interval_us_ = 0;
            sleeps_left_ = sleeps_after_a_poor_poll;
        } else if (max_us < interval_us_) {
            interval_us_ = static_cast<std::uint16_t>(max_us);
        }
    }

  private:
    static constexpr std::size_t us_per_request = 16;
    static constexpr std::uint8_t sleeps_after_a_poor_poll = 32;
    static constexpr std::uint8_t successes_before_growth = 3;
    std::uint16_t interval_us_ = 0;
    std::uint8_t successes_ = 0;
    std::uint8_t sleeps_left_ = 0;
};

}  // namespace dynamo
