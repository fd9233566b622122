// SPDX-License-Identifier: Apache-2.0
// Giving the GIL up, in any thread of a program, to its very end.
//
// Up to Python 3.13, a thread that wants the GIL while Python is finalised is ended by pthread_exit().
// That unwinds its stack, meets a noexcept function, and ends the process with std::terminate(). Here
// such a thread stays where it is instead, as it does by itself from Python 3.14 on.
#pragma once

#include <Python.h>

#include <type_traits>

#if defined(__GLIBC__)
#include <unistd.h>
#endif

namespace dynamo::python {

// Calls a function that may wait for the GIL and throws nothing. Nothing in it may have a destructor:
// those that stand between here and where the thread is ended would run without the GIL. So the
// function is written with plain pointers.
template <class Function>
#if defined(__GNUC__)
__attribute__((noinline))
#endif
auto to_the_end(Function function) -> decltype(function()) {
#if defined(__GLIBC__)
    // Unwinding runs this destructor. To catch it would not do: while another exception is being
    // handled, as when it is translated for Python, that ends the process.
    struct Stay {
        bool has_returned = false;
        ~Stay() {
            while (!has_returned) {
                ::pause();
            }
        }
    } stay;
    if constexpr (std::is_void_v<decltype(function())>) {
        function();
        stay.has_returned = true;
    } else {
        const auto result = function();
        stay.has_returned = true;
        return result;
    }
#else
    return function();
#endif
}

// module.function(*arguments), arguments being a tuple, with the GIL. A new reference, or nullptr and
// Python's error.
inline PyObject *call_to_the_end(const char *module, const char *function, PyObject *arguments) {
    return to_the_end([=]() -> PyObject * {
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

// Without the GIL as long as it lives. For threads that hold it.
class Released {
  public:
    Released() : saved_(PyEval_SaveThread()) {}
    ~Released() {
        to_the_end([this] { PyEval_RestoreThread(saved_); });
    }
    Released(const Released &) = delete;
    Released &operator=(const Released &) = delete;

  private:
    PyThreadState *saved_;
};

}  // namespace dynamo::python
