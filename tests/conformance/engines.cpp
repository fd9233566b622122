// SPDX-License-Identifier: Apache-2.0
// The engines linked into this program: those of examples/engines.
#include "../../examples/engines/c/engine.h"
#include "../../examples/engines/cpp/engine.hpp"
#include "suite.hpp"

void register_engines() {
    const auto add = [](const char *name, const dynamo_engine_t &engine) {
        expect_status(dynamo_engine_register(name, &engine, nullptr, nullptr), DYNAMO_OK, name);
    };
    add("babble-c", engine_of_text);
    add("babble-tokens", engine_of_tokens);
    add("babble-cpp", callbacks_of<StepEngine, Report>(DYNAMO_ENGINE_TEXT));
}
