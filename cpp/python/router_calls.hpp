// SPDX-License-Identifier: Apache-2.0
// Calls of routers, made by many threads at once. Each thread adds its call to the batch of the router and waits; no
// caller takes the GIL. The loop thread takes a whole batch, executes it in Python
// (dynamo_llm/runtime/cluster/router/engine.py), and answers calls together.
#pragma once

#include <cstdint>

#include "embed/bridge.h"

namespace dynamo::python::router_calls {

// Adds a call to its router's batch, and waits for the answer; see dynamo_call_router_t. Any thread.
std::int32_t call(void *instance, const dynamo_router_call *given, dynamo_selection_t *selection);

// Ends all calls with CLOSED, also later ones: the loop thread executes no more. Any thread.
void close() noexcept;

}  // namespace dynamo::python::router_calls
