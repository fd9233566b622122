// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "json.hpp"

DYNAMO_LLM_BEGIN

/** Builds the configuration of a runtime. The default is the demo model; dynamo_config_schema() has all keys. */
class Config {
  public:
    /** Sets the engine: "mistralrs", "echo", "scripted", "module:Class", ... */
    Config &engine(std::string_view name) { return set("engine", name); }
    /** Sets the engine to that of a shared library (docs/write-an-engine-c.md). */
    Config &engine_library(std::string_view path) {
        return set("engine", Json::object({{"library", path}}));
    }
    /** Sets the folder or file of the model, or its name on the Hugging Face Hub: "hf:org/name". */
    Config &model(std::string_view path) { return set("model", path); }
    /** Sets where the engine computes: "auto", "cpu", "cuda", "cuda:1", "metal" (docs/gpu.md). */
    Config &device(std::string_view name) { return set("device", name); }
    /** Sets one of the engine's own options. */
    Config &option(std::string_view key, const Json &value) {
        options_.add(key, value);
        return *this;
    }
    /** Sets the capacity of a request's stream in tokens, and whether a full stream fails the request instead of making
     * the engine wait. */
    Config &stream(std::size_t capacity, bool fail_when_full = false) {
        return set("stream", Json::object({{"capacity", capacity},
                                           {"when_full", fail_when_full ? "fail" : "block"}}));
    }
    /** Sets any key; the last value counts. */
    Config &set(std::string_view key, const Json &value) {
        if (key == "options") {
            options_ = value;
        } else {
            object_.add(key, value);
        }
        return *this;
    }
    /** Returns the configuration as JSON. */
    std::string json() const {
        Json whole = object_;
        if (options_.text() != "{}") {
            whole.add("options", options_);
        }
        return whole.text();
    }

  private:
    Json object_ = Json::raw("{}");
    Json options_ = Json::raw("{}");
};

DYNAMO_LLM_END
