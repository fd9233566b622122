// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.hpp"

DYNAMO_LLM_BEGIN

namespace detail {

// Releases an object with a function of the C interface.
template <auto release>
struct Release {
    template <class T>
    void operator()(T *pointer) const noexcept {
        release(pointer);
    }
};

// What the library handed to the caller to own.
template <class T>
using Freed = std::unique_ptr<T, Release<dynamo_free>>;

}  // namespace detail

/** A C handle and its owner: the common part of all classes that have a handle. Move-only. */
template <class Handle, auto destroy>
class Owner {
  public:
    /** Takes ownership of a C handle. */
    explicit Owner(Handle *owned) noexcept : handle_(owned) {}
    /** Makes an empty object, to be assigned to later. */
    explicit Owner(std::nullptr_t) noexcept {}

    /** Returns whether this object has a handle. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /** Returns the C handle; this object keeps ownership. */
    Handle *get() const noexcept { return handle_.get(); }
    /** Transfers ownership: returns the C handle, which the caller must destroy. */
    Handle *release() noexcept { return handle_.release(); }

  private:
    std::unique_ptr<Handle, detail::Release<destroy>> handle_;
};

namespace detail {

// Makes the object that owns what a C function returned. NULL is that function's error.
template <class Object, class T>
Returned<Object> owned(T *given) {
    if (given == nullptr) {
        return failed<Object>(Error::last());
    }
    return Object(given);
}

// Creates an object from its configuration, if this header and the library match.
template <class Object, class Create>
Returned<Object> create(Create create_handle, const std::string &config_json) {
    return checked<Object>(check_text(config_json, "config_json"), [&] {
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return failed<Object>(Error::last());
        }
        return owned<Object>(create_handle(config_json.c_str()));
    });
}

// Copies a text that the caller owns into a string, and frees it. `length` is nullptr if the text ends at its NUL.
inline Returned<std::string> owned_text(char *given, const std::size_t *length = nullptr) {
    const Freed<char> text(given);
    if (text == nullptr) {
        return failed<std::string>(Error::last());
    }
    return length == nullptr ? std::string(text.get()) : std::string(text.get(), *length);
}

}  // namespace detail

DYNAMO_LLM_END
