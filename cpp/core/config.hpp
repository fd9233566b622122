// SPDX-License-Identifier: Apache-2.0
// A runtime's configuration, checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/stream.hpp"

namespace dynamo {

// What is over them waits, or is refused with OVERLOADED.
struct Limits {
    std::size_t concurrent = 0;  // requests in the engines at once; 0 for any number
    std::size_t queued = 1024;   // requests that wait for a place
    std::uint64_t tokens = 0;    // of prompts and answers of requests in the engines; 0 for any
    std::int64_t first_token_ms = -1;  // deadlines of requests that have none of their own
    std::int64_t total_ms = -1;
    bool is_on() const { return concurrent > 0 || tokens > 0; }
};

struct Config {
    std::string text;  // the whole object, for the engine
    std::string engine = "mistralrs";
    bool has_pipeline = true;       // false: callers of token engines send token ids themselves
    std::string model;              // "" if the engine's default is wanted
    std::string python_executable;  // "" if it is to be looked for
    std::string name;               // that requests give as "model"; "" if any name will do
    StreamLimits stream;
    Limits limits;
    std::vector<Config>
        models;  // several models: a configuration each; then the first four are unused

    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static Config parse(std::string_view text);
    static const char *schema();
};

}  // namespace dynamo
