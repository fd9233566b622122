// SPDX-License-Identifier: Apache-2.0
// Operating system functions for embedding: finds libraries and runs programs.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace dynamo::embed::platform {

// Finds a function or object by name among the globally visible symbols; nullptr if none has it.
void *global_symbol(const char *name) noexcept;

// Makes the symbols of an already loaded CPython library globally visible, if it was loaded with local visibility.
// Returns false if none is loaded. Without this, a second CPython would be loaded into the process.
bool promote_loaded_python();

// Returns the file that contains this code: the shared library, or the program that it is linked into.
std::string own_path();

struct Output {
    bool was_started = false;
    bool timed_out = false;
    std::string text;  // stdout and stderr; if the program did not start, the reason
};
// Runs a program until it ends, or until is_enough accepts its output. is_enough is called with all output
// so far, each time more arrives. Only the end of very long output is kept. After is_enough has accepted the
// output, the program must end by itself.
Output run(const std::vector<std::string> &command, std::chrono::milliseconds time_limit,
           const std::function<bool(const std::string &)> &is_enough);

// Returns the folders of PATH.
std::vector<std::string> search_path();
bool is_executable(const std::string &path) noexcept;

}  // namespace dynamo::embed::platform
