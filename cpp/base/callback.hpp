// SPDX-License-Identifier: Apache-2.0
// Calls callbacks of the host and of engines. An exception that a callback throws is caught and logged.
//
// pthread_exit() and pthread_cancel() unwind the stack too, and catching that unwinding would abort the process. So it
// passes through: code around such a call must not be noexcept, and must be correct if what follows never runs.
#pragma once

#include <new>
#include <string>

#include "base/error.hpp"

#if defined(__GLIBCXX__)
#include <cxxabi.h>
// Put it before catch (...), which would abort the process if it caught the exit of a thread.
#define DYNAMO_RETHROW_THREAD_EXIT   \
    catch (abi::__forced_unwind &) { \
        throw;                       \
    }
#else
#define DYNAMO_RETHROW_THREAD_EXIT
#endif

namespace dynamo {

// Describes the exception that is being handled. Allocates nothing.
class CaughtException {
  public:
    // Must be called inside the exception handler.
    void describe() noexcept;
    const char *text() const noexcept { return text_; }
    bool is_out_of_memory() const noexcept { return is_out_of_memory_; }

  private:
    char text_[320] = "";
    bool is_out_of_memory_ = false;
};

namespace callback {

// Logs an exception; engine is nullptr for a callback of the host. Must be called outside the exception handler,
// because a log callback may end the thread.
void report(const char *function, const char *engine, const CaughtException &caught);

// Calls a callback. Returns false if it threw; the exception is logged. engine: as for report().
template <class Function>
bool call(const char *name, Function &&function, const char *engine = nullptr) {
    CaughtException caught;
    try {
        function();
        return true;
    }
    DYNAMO_RETHROW_THREAD_EXIT
    catch (...) {
        caught.describe();
    }
    report(name, engine, caught);
    return false;
}

}  // namespace callback
}  // namespace dynamo
