// SPDX-License-Identifier: Apache-2.0
// What an interpreter says of itself.
#pragma once

#include <string>
#include <vector>

namespace dynamo::embed {

struct Interpreter {
    std::string executable;  // as it was asked, so that a virtual environment stays one
    int major = 0;
    int minor = 0;
    bool is_cpython = false;
    bool is_free_threaded = false;
    std::vector<std::string> library_folders;  // where its shared library may be
    std::string library_name;                  // "libpython3.11.so.1.0"
    std::string package_dir;                   // of its own `dynamo_llm`; "" if it has none

    std::string version() const { return std::to_string(major) + "." + std::to_string(minor); }
};

// Runs the interpreter (some 20 ms). Throws Failure with PYTHON_UNAVAILABLE and the reason alone.
Interpreter ask(const std::string &executable);

}  // namespace dynamo::embed
