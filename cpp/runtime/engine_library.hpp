// SPDX-License-Identifier: Apache-2.0
// Engines in shared libraries, which a configuration names by path.
#pragma once

#include <memory>
#include <string>

#include "runtime/engine.hpp"

namespace dynamo::engine_library {

// Loads a library by its absolute path, and returns its engine; for the same file always the same one. The library stays loaded until the
// process ends, because nobody knows when the last thread of an engine has left its code. Throws Failure with
// ENGINE_NOT_FOUND (no such file), ENGINE_UNAVAILABLE (not a library of an engine), VERSION_MISMATCH, ENGINE_FAILED, or
// the error of its entry function.
std::shared_ptr<EngineType> load(const std::string &path);

}  // namespace dynamo::engine_library
