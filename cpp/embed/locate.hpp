// SPDX-License-Identifier: Apache-2.0
// Finds an interpreter, its shared library, and the module `_core` that matches it.
#pragma once

#include <string>

namespace dynamo::embed {

struct Location {
    std::string executable;   // "" if Python already runs
    std::string library;      // likewise
    std::string package_dir;  // the Python package `dynamo_llm`
    std::string bridge;       // its module `_core` for this version of Python
};

// For a program that does not run Python. `wanted` is the configuration's "python.executable", or
// "". Throws Failure with PYTHON_UNAVAILABLE; its message lists the searched locations and a remedy.
Location locate(const std::string &wanted);

// For a program that already runs this version of Python ("3.11").
Location locate_for_running(const std::string &version);

}  // namespace dynamo::embed
