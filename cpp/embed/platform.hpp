// SPDX-License-Identifier: Apache-2.0
// What embedding needs of the operating system: opening libraries and asking a program something.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace dynamo::embed::platform {

// A function or object of any library whose names are visible to all; nullptr if there is none.
void *global_symbol(const char *name) noexcept;

// Opens a library for ever. Throws Failure with PYTHON_UNAVAILABLE and the loader's reason.
enum class Visibility { local, global };
void *open_library(const std::string &path, Visibility visibility);
void *symbol(void *library, const char *name) noexcept;

// Makes the names of a CPython library visible that something else loaded for itself; false if
// there is none. Without it a second CPython would be loaded beside it.
bool promote_loaded_python();

// The file that this code is in: the shared library, or the program it is linked into.
std::string own_path();

struct Output {
    bool was_started = false;
    bool timed_out = false;
    std::string text;  // stdout and stderr; or why it was not started
};
Output run(const std::vector<std::string> &command, std::chrono::milliseconds time_limit);

// Folders of PATH.
std::vector<std::string> search_path();
bool is_executable(const std::string &path) noexcept;

}  // namespace dynamo::embed::platform
