// SPDX-License-Identifier: Apache-2.0
// Checks the arguments of callers. All functions throw Failure with INVALID_ARGUMENT.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "stream/stream.hpp"

namespace dynamo::capi {

template <class T>
T *not_null(T *pointer, const char *name) {
    if (pointer == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, std::string(name) + " is NULL");
    }
    return pointer;
}

inline const char *text(const char *pointer, const char *name) {
    if (pointer == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      std::string(name) + " is NULL; \"{}\" is the empty JSON object");
    }
    return pointer;
}

inline std::optional<Clock::time_point> timeout(std::int64_t milliseconds) {
    if (milliseconds < -1) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      "timeout_ms must be -1 (no limit), 0 (do not wait), or positive, not " +
                          std::to_string(milliseconds));
    }
    return after_ms(milliseconds);
}

}  // namespace dynamo::capi
