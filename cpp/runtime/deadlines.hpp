// SPDX-License-Identifier: Apache-2.0
// The deadlines of a request: to its first token, and to its end. Guarded by the request's mutex.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "stream/timer.hpp"
#include "stream/timing.hpp"

namespace dynamo {

struct Limits;
class Request;

class Deadlines {
  public:
    enum class Kind : std::uint8_t { first_token, total };

    Deadlines() = default;
    // Throws Failure with INVALID_ARGUMENT unless the values are positive, or -1 for none.
    Deadlines(std::int64_t first_token_ms, std::int64_t total_ms);

    // Starts the timers, which call Request::expire(). The limits have the defaults. Throws Failure with SYSTEM.
    void arm(const Limits &limits, Request &request);
    // Cancels the timers. A call of expire() may be running when this returns.
    void disarm() noexcept;
    // Forgets when the request must end.
    void reset() noexcept { total_deadline_.reset(); }

    // Milliseconds until the request must end; -1 without that deadline.
    std::int64_t remaining_ms() const;

  private:
    std::int64_t first_token_ms_ = -1;
    std::int64_t total_ms_ = -1;
    std::array<std::optional<timer::Id>, 2> timers_;  // that run
    std::optional<Clock::time_point> total_deadline_;
};

}  // namespace dynamo
