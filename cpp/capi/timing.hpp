// SPDX-License-Identifier: Apache-2.0
// Fills a caller's dynamo_timing_t.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "capi/arguments.hpp"
#include "core/error.hpp"
#include "core/stream_clock.hpp"

namespace dynamo::capi {

// Throws Failure with INVALID_ARGUMENT.
inline void fill(dynamo_timing_t *timing, const Timing &times) {
    const std::size_t size = not_null(timing, "timing")->struct_size;
    if (size < offsetof(dynamo_timing_t, total_us) + sizeof timing->total_us) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "timing->struct_size is " +
                                                         std::to_string(size) +
                                                         "; set it to sizeof(dynamo_timing_t)");
    }
    const dynamo_timing_t filled = {size, times.queue_us, times.first_token_us, times.total_us};
    std::memcpy(timing, &filled, std::min(size, sizeof filled));
}

}  // namespace dynamo::capi
