// SPDX-License-Identifier: Apache-2.0
// A runtime's configuration, checked.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/stream.hpp"

namespace dynamo {

struct Config {
    std::string text;  // the whole object, for the engine
    std::string engine = "mistralrs";
    bool has_pipeline = true;       // false: callers of token engines send token ids themselves
    std::string model;              // "" if the engine's default is wanted
    std::string python_executable;  // "" if it is to be looked for
    StreamLimits stream;

    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static Config parse(std::string_view text);
    static const char *schema();
};

}  // namespace dynamo
