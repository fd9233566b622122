// SPDX-License-Identifier: Apache-2.0
// How a reader waits for what comes soon.
//
// To wake a thread costs the one who wakes it microseconds, and an engine that makes a token each
// microsecond would do little else. So a reader that was woken soon after it fell asleep does not sleep
// the next time, it naps: it looks again by itself after a while, and nobody wakes it but for a reason
// (the stream is nearly full, or it ended). A nap that found something is followed by longer ones, up to
// a millisecond, but only after several in a row, since a single burst is no load yet. A nap that found
// nothing is followed by sleep.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "core/stream_clock.hpp"

namespace dynamo {

class Nap {
  public:
    static constexpr std::chrono::microseconds shortest{50};
    static constexpr std::chrono::microseconds longest{1000};

    // How long to nap; zero: sleep until woken.
    std::chrono::microseconds length() const noexcept {
        return std::chrono::microseconds(length_us_);
    }

    // The reader slept that long, and then there was something.
    void slept(Clock::duration time) noexcept {
        in_a_row_ = 0;
        if (sleeps_before_next_ > 0) {
            --sleeps_before_next_;
        } else if (time < 2 * shortest) {
            length_us_ = static_cast<std::uint16_t>(shortest.count());
            return;
        }
        length_us_ = 0;
    }

    // The reader napped, and there was something, or not.
    void napped(bool found) noexcept {
        if (!found) {
            length_us_ = 0;
        } else if (++in_a_row_ >= enough_in_a_row) {
            in_a_row_ = enough_in_a_row;
            length_us_ =
                static_cast<std::uint16_t>(std::min<std::int64_t>(2 * length_us_, longest.count()));
        }
    }

    // Of a queue, after a nap that found so many requests: no longer than these are worth. A wake-up costs
    // about that time; and where a program sends its next request when it has the answer to the last, a nap
    // holds up both.
    void bound(std::size_t found) noexcept {
        const std::size_t worth = found * worth_us;
        if (worth < static_cast<std::size_t>(shortest.count())) {
            length_us_ = 0;
            sleeps_before_next_ = sleeps_after_a_bad_one;
        } else if (worth < length_us_) {
            length_us_ = static_cast<std::uint16_t>(worth);
        }
    }

  private:
    static constexpr std::size_t worth_us = 16;
    static constexpr std::uint8_t sleeps_after_a_bad_one = 32;
    static constexpr std::uint8_t enough_in_a_row = 3;
    std::uint16_t length_us_ = 0;
    std::uint8_t in_a_row_ = 0;
    std::uint8_t sleeps_before_next_ = 0;
};

}  // namespace dynamo
