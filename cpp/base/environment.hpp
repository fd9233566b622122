// SPDX-License-Identifier: Apache-2.0
// Environment variables. The library and the Python module read them only here. Header-only, because the two are
// separate binaries.
#pragma once

#include <cstdlib>

#if defined(__linux__)
#include <sys/auxv.h>
#elif !defined(_WIN32)
#include <unistd.h>
#endif

namespace dynamo::environment {

// Whether the program has more privileges than the user who started it (set-user-ID, set-group-ID, file capabilities).
// Its environment is untrusted then.
inline bool is_privileged() noexcept {
#if defined(__linux__)
    return ::getauxval(AT_SECURE) != 0;  // as secure_getenv() does
#elif !defined(_WIN32)
    return ::issetugid() != 0;
#else
    return false;
#endif
}

// Returns the value of a variable; nullptr if it is not set, or if the program is privileged.
inline const char *variable(const char *name) noexcept {
    return is_privileged() ? nullptr : std::getenv(name);
}

}  // namespace dynamo::environment
