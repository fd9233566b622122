// SPDX-License-Identifier: Apache-2.0
// The engines that are part of the library and need no Python. They use the public engine interface
// and nothing else of the core but its JSON tables.
#pragma once

#include "dynamo_llm/engine.h"

namespace dynamo::engines {

// Registers them all. Cheap to repeat.
void register_native();

const dynamo_engine_t &echo();
const dynamo_engine_t &scripted();

}  // namespace dynamo::engines
