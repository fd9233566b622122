// SPDX-License-Identifier: Apache-2.0
// The line between C++ and C: no exception passes, every outcome becomes the thread's last status.
#pragma once

#include <cstdint>
#include <new>
#include <type_traits>

#include "core/error.hpp"
#include "core/platform.hpp"

namespace dynamo::capi {

// Sets the last error for the exception that is being handled. Returns its status.
std::int32_t remember_current_exception() noexcept;
std::int32_t remember_fork() noexcept;

// Runs a body that returns a status. What it throws becomes a negative one.
template <class Body>
std::int32_t status_of(Body &&body) noexcept {
    if (platform::is_forked_child()) {
        return remember_fork();
    }
    try {
        const std::int32_t status = body();
        last_error::set(status);
        return status;
    } catch (...) {
        return remember_current_exception();
    }
}

// Runs a body that returns a value; `otherwise` stands for failure.
template <class Value, class Body>
Value value_of(Value otherwise, Body &&body) noexcept {
    Value value = otherwise;
    status_of([&] {
        value = body();
        return DYNAMO_OK;
    });
    return value;
}

}  // namespace dynamo::capi
