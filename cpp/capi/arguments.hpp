// SPDX-License-Identifier: Apache-2.0
// Checks the arguments of callers. All functions throw Failure with INVALID_ARGUMENT.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/error.hpp"
#include "base/utf8.hpp"
#include "stream/stream.hpp"

namespace dynamo::capi {

template <class T>
T *not_null(T *pointer, const char *name) {
    if (pointer == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, std::string(name) + " is NULL");
    }
    return pointer;
}

template <class T>
std::span<const T> array(const T *first, std::size_t count, const char *name) {
    return {count == 0 ? nullptr : not_null(first, name), count};
}

inline const char *text(const char *pointer, const char *name) {
    if (pointer == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      std::string(name) + " is NULL; \"{}\" is the empty JSON object");
    }
    return pointer;
}

inline const char *utf8(const char *text, const char *name) {
    if (invalid_utf8_at(text) != std::string_view::npos) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, std::string(name) + " is not UTF-8");
    }
    return text;
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
