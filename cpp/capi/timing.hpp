// SPDX-License-Identifier: Apache-2.0
// Fills a caller's dynamo_timing_t.
#pragma once

#include "capi/structs.hpp"
#include "stream/timing.hpp"

namespace dynamo::capi {

// Throws Failure with INVALID_ARGUMENT.
inline void fill(dynamo_timing_t *timing, const Timing &times) {
    write(timing, {0, times.queue_us, times.first_token_us, times.total_us}, "timing");
}

}  // namespace dynamo::capi
