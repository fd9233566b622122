// SPDX-License-Identifier: Apache-2.0
// Finds CPython, starts or joins it, and opens the bridge: the Python module `dynamo_llm._core`,
// which registers itself as the engine "python". Nothing here includes Python.h.
#pragma once

#include <string>

#include "runtime/config.hpp"

namespace dynamo::embed {

// Starts the Python host in this process unless it already runs. Returns the name of the engine that the
// host registered. Throws Failure with PYTHON_UNAVAILABLE or VERSION_MISMATCH.
std::string engine_from_python(const ModelConfig &config);

}  // namespace dynamo::embed
