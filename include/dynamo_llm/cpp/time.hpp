// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base.hpp"

DYNAMO_LLM_BEGIN

namespace detail {
// Whole milliseconds, rounded up: a wait is never shorter than requested. -1 is no limit in C.
template <class Rep, class Period>
std::int64_t milliseconds(std::chrono::duration<Rep, Period> duration) noexcept {
    const double exact = std::chrono::duration<double, std::milli>(duration).count();
    if (exact <= 0) {
        return 0;
    }
    return exact < 9e15 ? static_cast<std::int64_t>(std::ceil(exact)) : -1;  // also for NaN
}
}  // namespace detail

/** A timeout or deadline that never passes. */
inline constexpr std::chrono::milliseconds forever = std::chrono::milliseconds::max();

DYNAMO_LLM_END
