// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dynamo_llm.hpp>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include "base/detached_thread.hpp"
#include "python/gil.hpp"
#include "python/host.hpp"

namespace dynamo::python {

// Destroys an object in a new thread, which may wait for the engine. If the system cannot start a thread, the
// object is left unchanged.
template <class Object>
void destroy_in_background(Object &object) noexcept {
    try {
        auto taken = std::make_unique<Object>(nullptr);
        auto *const place = taken.get();
        *place = std::move(object);
        try {
            start_thread([place] { delete place; });
            static_cast<void>(taken.release());
        } catch (const std::exception &) {
            object = std::move(*place);
        }
    } catch (const std::bad_alloc &) {
    }
}

// Holds an object of the C++ wrapper in a Python object.
//
// Python's garbage collector may destroy objects in any Python thread, including the thread of the event loop, or a
// thread that an engine joins when it stops. So the destructor must not wait for the engine.
template <class Object>
struct Held {
    explicit Held(Object taken) : object(std::move(taken)) {}
    // Creates the object, which may wait.
    explicit Held(const std::string &json) : object(json) {}
    Held(const Held &) = delete;
    Held &operator=(const Held &) = delete;
    ~Held() {
        if constexpr (!std::is_same_v<Object, dynamo_llm::Request>) {  // which never waits
            if (object && !is_finalizing()) {
                destroy_in_background(object);
            }
        }
        destroy_here();
    }
    // Makes a method for Python from a function of the object.
    template <class Result, class... Arguments>
    static auto method(Result (Object::*function)(Arguments...) const) {
        return [function](const Held &self, Arguments... arguments) {
            return (self.object.*function)(std::forward<Arguments>(arguments)...);
        };
    }

    // Waits until the engine has stopped. Throws dynamo_llm::Error with INVALID_STATE on a thread that must not
    // wait.
    void close() {
        if (object && host::is_loop_thread()) {
            char why[512];
            host::check_wait("close()", 0, why, sizeof why);
            dynamo_engine_error(DYNAMO_ERROR_INVALID_STATE, why, nullptr);
            throw dynamo_llm::Error::last();
        }
        destroy_here();
    }

    Object object;

  private:
    // Releases the GIL meanwhile, because an engine may need it.
    void destroy_here() {
        const Released released;
        object = Object(nullptr);
    }

    // During finalization Python cannot start threads, and its engines have already been stopped.
    static bool is_finalizing() noexcept {
#if PY_VERSION_HEX >= 0x030D0000
        return Py_IsFinalizing() != 0;
#else
        return _Py_IsFinalizing() != 0;
#endif
    }
};

}  // namespace dynamo::python
