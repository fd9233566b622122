// SPDX-License-Identifier: Apache-2.0
// Calls functions at points in time: deadlines, and the start of queued requests.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "stream/timing.hpp"

namespace dynamo::timer {

// A point in time, and a number.
using Id = std::pair<Clock::time_point, std::uint64_t>;

// Runs a function in the timer thread of the process. It must not block. Throws Failure with SYSTEM.
Id at(Clock::time_point when, std::function<void()> function);

// Cancels a function that has not started. It may be running when this returns.
void cancel(const Id &id) noexcept;

}  // namespace dynamo::timer
