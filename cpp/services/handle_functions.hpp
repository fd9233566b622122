// SPDX-License-Identifier: Apache-2.0
// What the C functions of all services have in common: create, destroy, return a text.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/handle.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"

namespace dynamo::services {

// Creates an object from its configuration, and returns its handle, or NULL.
template <class Object>
auto create(const char *config_json) {
    return capi::created<Object>([&] {
        return open_handle(std::make_shared<Object>(capi::text(config_json, "config_json")));
    });
}

// Closes a handle. NULL is ignored; a stale or foreign handle is an error.
template <class Object>
void destroy(typename HandleTraits<Object>::CType *handle) {
    capi::status_of([&] {
        if (handle != nullptr && !close_handle<Object>(handle)) {
            const HandleRef<Object> reject_stale(handle);
        }
        return DYNAMO_OK;
    });
}

// Runs a body that returns a text, and copies the text into memory that the caller owns. Returns NULL on failure.
template <class Body>
char *text_of(Body &&body, std::size_t *length = nullptr) {
    if (length != nullptr) {
        *length = 0;
    }
    return capi::value_of<char *>(nullptr, [&] {
        const std::string text = body();
        char *const owned = capi::owned::text(text);
        if (length != nullptr) {
            *length = text.size();
        }
        return owned;
    });
}

}  // namespace dynamo::services
