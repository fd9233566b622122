// SPDX-License-Identifier: Apache-2.0
// Releases and reacquires the GIL in any thread of a program, safely even while Python is finalized.
//
// Up to Python 3.13, CPython ends a thread with pthread_exit() if it acquires the GIL while Python is finalized.
// That unwinds the stack up to a noexcept function, where std::terminate() ends the process. without_thread_exit()
// blocks such a thread instead, as CPython itself does from 3.14 on.
#pragma once

#include <Python.h>

#include <type_traits>

#if defined(__GLIBC__)
#include <unistd.h>
#endif

namespace dynamo::python {

// Calls a function that may wait for the GIL and does not throw. Use only plain pointers in the function, no objects
// with destructors: if the thread is ended inside it, their destructors would run without the GIL.
template <class Function>
#if defined(__GNUC__)
__attribute__((noinline))
#endif
auto without_thread_exit(Function function) -> decltype(function()) {
#if defined(__GLIBC__)
    // Unwinding runs this destructor, which blocks the thread. A catch clause would not work: while another
    // exception is being handled, such as during its translation for Python, catching ends the process.
    struct Blocker {
        bool has_returned = false;
        ~Blocker() {
            while (!has_returned) {
                ::pause();
            }
        }
    } blocker;
    if constexpr (std::is_void_v<decltype(function())>) {
        function();
        blocker.has_returned = true;
    } else {
        const auto result = function();
        blocker.has_returned = true;
        return result;
    }
#else
    return function();
#endif
}

// Calls module.function(*arguments) with a tuple of arguments. Requires the GIL. Returns a new reference, or nullptr
// with a Python exception set.
inline PyObject *call_function(const char *module, const char *function, PyObject *arguments) {
    return without_thread_exit([=]() -> PyObject * {
        PyObject *const loaded = PyImport_ImportModule(module);
        if (loaded == nullptr) {
            return nullptr;
        }
        PyObject *const callable = PyObject_GetAttrString(loaded, function);
        Py_DECREF(loaded);
        if (callable == nullptr) {
            return nullptr;
        }
        PyObject *const result = PyObject_Call(callable, arguments, nullptr);
        Py_DECREF(callable);
        return result;
    });
}

// Keeps Python's state of this thread, which must hold the GIL, until the thread ends. Otherwise, in a thread that Python
// did not start, each PyGILState_Ensure() creates a state and each PyGILState_Release() destroys it, which takes longer
// than most work between the two.
inline void keep_thread_state() noexcept {
    thread_local bool is_kept = false;
    if (!is_kept) {
        is_kept = true;
        PyGILState_Ensure();  // not released
    }
}

// Releases the GIL for the lifetime of this object. The calling thread must hold the GIL.
class Released {
  public:
    Released() : saved_(PyEval_SaveThread()) {}
    ~Released() {
        without_thread_exit([this] { PyEval_RestoreThread(saved_); });
    }
    Released(const Released &) = delete;
    Released &operator=(const Released &) = delete;

  private:
    PyThreadState *saved_;
};

}  // namespace dynamo::python
