// SPDX-License-Identifier: Apache-2.0
// Engines by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dynamo_llm/engine.h"
#include "runtime/config.hpp"
#include "runtime/engine.hpp"

namespace dynamo {
namespace engine_registry {

// Checks the functions of an engine, and copies them. Throws Failure with INVALID_ARGUMENT.
std::shared_ptr<EngineType> make_type(const dynamo_engine_t &known);

// Copies `known`. Throws Failure with INVALID_ARGUMENT.
void add(const char *name, const dynamo_engine_t &known, void *user,
         dynamo_release_callback_t release);
// Throws Failure with ENGINE_NOT_FOUND, or with INVALID_ARGUMENT for an engine of the library itself.
void remove(const char *name);

// During its life, the engines that this thread adds are built in: they cannot be replaced or removed.
class BuiltInScope {
  public:
    enum class Kind : std::uint8_t { none, native, hosted };
    explicit BuiltInScope(Kind kind) noexcept;
    ~BuiltInScope();
    BuiltInScope(const BuiltInScope &) = delete;
};

// Loads engines that are not registered yet: returns the name of the registered engine that serves a configuration.
// Throws Failure. Set once, before the first start.
using Fallback = std::string (*)(const ModelConfig &config);
void set_fallback(Fallback fallback) noexcept;

// The engine that serves a model, and the configuration that it starts with.
struct Resolved {
    std::shared_ptr<EngineType> type;
    std::string config;
};

// Finds the engine of a model; where the model needs a pipeline, or a child process, that is the engine in Python which
// provides it. Throws Failure with ENGINE_NOT_FOUND, or that of the fallback.
Resolved resolve(const ModelConfig &config);

std::vector<std::string> names();

}  // namespace engine_registry
}  // namespace dynamo
