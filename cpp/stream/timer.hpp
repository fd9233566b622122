// SPDX-License-Identifier: Apache-2.0
// Calls functions at points in time: for deadlines, and for the pace of the native engines.
#pragma once

#include <cstdint>
#include <functional>

#include "stream/timing.hpp"

namespace dynamo::timer {

using Id = std::uint64_t;  // never 0

// Runs a function in the timer thread of the process. It must not block. Throws Failure with SYSTEM.
Id at(Clock::time_point when, std::function<void()> function);

// Cancels a function that has not started. It may be running when this returns.
void cancel(Id id) noexcept;

}  // namespace dynamo::timer
