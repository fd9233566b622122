// SPDX-License-Identifier: Apache-2.0
// Calls functions at points in time: deadlines, and the pace of the native engines.
#pragma once

#include <cstdint>
#include <functional>

#include "core/stream.hpp"

namespace dynamo::timer {

using Id = std::uint64_t;  // never 0

// Runs a function, which must not block, in the process's timer thread. Throws Failure with SYSTEM.
Id at(Clock::time_point when, std::function<void()> function);

// Forgets a function that has not run yet. It may be running at this moment.
void cancel(Id id) noexcept;

}  // namespace dynamo::timer
