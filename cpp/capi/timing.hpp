// SPDX-License-Identifier: Apache-2.0
// Fills a caller's dynamo_timing_t or dynamo_usage_t.
#pragma once

#include "base/structs.hpp"
#include "stream/response.hpp"
#include "stream/timing.hpp"

namespace dynamo::capi {

// Throws Failure with INVALID_ARGUMENT.
inline void fill(dynamo_timing_t *timing, const Timing &times) {
    structs::write(timing, {0, times.queue_us, times.first_token_us, times.total_us}, "timing");
}

// Throws Failure with INVALID_ARGUMENT.
inline void fill(dynamo_usage_t *usage, const Usage &counts) {
    structs::write(usage, {0, counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens},
                   "usage");
}

}  // namespace dynamo::capi
