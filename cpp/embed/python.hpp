// SPDX-License-Identifier: Apache-2.0
// Finds CPython, starts or joins it, and opens the bridge: the Python module `dynamo_llm._core`,
// which registers itself as the engine "python". Nothing here includes Python.h.
#pragma once

#include <string>

#include "embed/bridge.h"
#include "runtime/config.hpp"
#include "runtime/engine.hpp"

namespace dynamo::embed {

// Starts the Python host in this process unless it already runs. Returns the name of the engine that the
// host registered. Throws Failure with PYTHON_UNAVAILABLE or VERSION_MISMATCH.
std::string engine_from_python(const ModelConfig &config);

// Calls a router in Python, and waits for the result; see dynamo_call_router_t. Throws Failure.
dynamo_selection_t call_router(const Engine &router, const dynamo_router_call &call);

// The functions that decode. Requires an engine in Python that has started.
const dynamo_detokenizer_functions &detokenizers();

}  // namespace dynamo::embed
