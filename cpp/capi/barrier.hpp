// SPDX-License-Identifier: Apache-2.0
// The exception barrier between C++ and C: every exception becomes a status, and every result sets the thread's
// last status. Only pthread_exit() in a callback unwinds through the barrier, which is why status_of() and
// value_of() are not noexcept.
#pragma once

#include <cstdint>
#include <new>
#include <type_traits>

#include "base/callback.hpp"
#include "base/error.hpp"
#include "base/failed_create.hpp"
#include "base/platform.hpp"

namespace dynamo::capi {

// Sets the thread's last error from the exception that is being handled, and returns its status.
std::int32_t remember_current_exception() noexcept;
std::int32_t remember_fork() noexcept;

// Runs a body that returns a status. An exception becomes a negative status.
template <class Body>
std::int32_t status_of(Body &&body) {
    if (platform::is_forked_child()) {
        return remember_fork();
    }
    try {
        const std::int32_t status = body();
        last_error::set(status);
        return status;
    }
    DYNAMO_RETHROW_THREAD_EXIT
    catch (...) {
        return remember_current_exception();
    }
}

// Runs a body that returns a value. Returns `otherwise` on failure.
template <class Value, class Body>
Value value_of(Value otherwise, Body &&body) {
    Value value = otherwise;
    status_of([&] {
        value = body();
        return DYNAMO_OK;
    });
    return value;
}

// Runs a body that creates an object of type T and returns its handle. Returns NULL on failure and remembers the
// error, so that later calls with this NULL report it again.
template <class T, class Body>
typename HandleTraits<T>::CType *created(Body &&body) noexcept {
    using Handle = typename HandleTraits<T>::CType *;
    const Handle handle = value_of<Handle>(nullptr, body);
    if (handle != nullptr) {
        failed_create::forget(HandleTraits<T>::kind);
    } else if (!platform::is_forked_child()) {
        failed_create::remember_last(HandleTraits<T>::kind);
    }
    return handle;
}

}  // namespace dynamo::capi
