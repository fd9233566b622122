// SPDX-License-Identifier: Apache-2.0
// Finds CPython, starts or joins it, and opens the bridge: the Python module `dynamo_llm._core`,
// which registers itself as the engine "python". Nothing here includes Python.h.
#pragma once

#include <string>

#include "core/config.hpp"

namespace dynamo::embed {

// Sees to it that the Python host runs in this process. Returns the name of the engine that it
// registered. Throws Failure with PYTHON_UNAVAILABLE or VERSION_MISMATCH.
std::string engine_from_python(const Config &config);

}  // namespace dynamo::embed
