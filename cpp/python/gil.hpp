// SPDX-License-Identifier: Apache-2.0
// Giving the GIL up, in any thread of a program, to its very end.
//
// Up to Python 3.13, a thread that wants the GIL while Python is finalised is ended by pthread_exit().
// That unwinds its stack, meets a noexcept function, and ends the process with std::terminate(). Here
// such a thread stays where it is instead, as it does by itself from Python 3.14 on.
#pragma once

#include <Python.h>

#if defined(__GLIBC__)
#include <cxxabi.h>
#include <unistd.h>
#endif

namespace dynamo::python {

// Calls a function that may wait for the GIL.
template <class Function>
auto to_the_end(Function function) -> decltype(function()) {
#if defined(__GLIBC__)
    try {
        return function();
    } catch (abi::__forced_unwind &) {
        while (true) {
            ::pause();
        }
    }
#else
    return function();
#endif
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
