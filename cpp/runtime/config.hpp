// SPDX-License-Identifier: Apache-2.0
// The validated configuration of a runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/budget.hpp"
#include "stream/stream.hpp"

namespace dynamo {

// Requests over these limits are queued, or refused with OVERLOADED.
struct Limits {
    std::size_t concurrent = 0;        // requests in the engines at once; 0: any number
    std::size_t queued = 1024;         // queued requests
    std::uint64_t tokens = 0;          // of prompts and answers in the engines; 0: any number
    std::int64_t first_token_ms = -1;  // default deadlines
    std::int64_t total_ms = -1;
    Budget request;  // for one request
    bool is_on() const { return concurrent > 0 || tokens > 0; }
};

// One model and its engine.
struct ModelConfig {
    std::string text;  // the whole object, for the engine
    std::string engine = "mistralrs";
    std::string library;            // absolute path of the engine's shared library; "": none
    bool has_pipeline = true;       // false: callers of token-level engines send token ids
    bool is_isolated = false;       // the engine runs in a child process
    std::string model;              // "": the engine's default
    std::string device;             // "": the engine's choice
    std::string python_executable;  // "": to be found
    std::string name;               // that requests give as "model"; "" if any name will do
    std::string parser_key;         // a key that names a parser of answers; "": none does
};

struct RuntimeConfig {
    std::vector<ModelConfig> models;  // at least one
    bool has_model_list = false;      // "models" was given
    StreamLimits stream;
    Limits limits;

    // Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static RuntimeConfig parse(std::string_view text);
    static const char *schema();
};

}  // namespace dynamo
