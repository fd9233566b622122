// SPDX-License-Identifier: Apache-2.0
// The engines that are built into the library and need no Python. They use only the public engine interface
// and, internally, the tables that check JSON keys.
#pragma once

#include "dynamo_llm/engine.h"

namespace dynamo::engines {

// Registers all native engines. Repeated calls are cheap.
void register_native();

dynamo_engine_t echo();
dynamo_engine_t scripted();

}  // namespace dynamo::engines
