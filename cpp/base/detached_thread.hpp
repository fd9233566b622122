// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <thread>
#include <utility>

#include <signal.h>

namespace dynamo {

// Runs a function in a detached thread that blocks all signals, so that it handles none of the host's. Throws
// std::system_error and std::bad_alloc. (Not a template: std::thread would export a symbol for each function.)
inline void start_thread(std::function<void()> function) {
    struct Blocked {
        Blocked() {
            sigset_t all;
            sigfillset(&all);
            ::pthread_sigmask(SIG_BLOCK, &all, &before);
        }
        ~Blocked() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
        sigset_t before;
    };
    const Blocked blocked;  // the thread inherits it
    std::thread(std::move(function)).detach();
}

}  // namespace dynamo
