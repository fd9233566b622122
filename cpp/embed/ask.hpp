// SPDX-License-Identifier: Apache-2.0
// Asks a Python interpreter about itself.
#pragma once

#include <string>
#include <vector>

namespace dynamo::embed {

struct Interpreter {
    std::string executable;  // as given, not resolved: this keeps a virtual environment
    int major = 0;
    int minor = 0;
    bool is_cpython = false;
    bool is_free_threaded = false;
    std::vector<std::string> library_folders;  // folders that may contain its shared library
    std::string library_name;                  // "libpython3.11.so.1.0"
    std::string package_dir;  // folder of its own package `dynamo_llm`; "" if it has none

    std::string version() const { return std::to_string(major) + "." + std::to_string(minor); }
};

// Runs the interpreter, which takes about 20 ms. Throws Failure with PYTHON_UNAVAILABLE; its message is the reason
// only, to which the caller adds the context.
Interpreter ask(const std::string &executable);

// Throws a Failure with PYTHON_UNAVAILABLE.
[[noreturn]] void reject_python(const std::string &reason);

}  // namespace dynamo::embed
