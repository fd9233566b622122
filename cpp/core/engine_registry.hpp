// SPDX-License-Identifier: Apache-2.0
// Engines by name.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/body.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "dynamo_llm/engine.h"

namespace dynamo {

// An engine as it was registered. Lives until it is unregistered and its last instance is gone.
struct EngineType {
    bool is_built_in = false;
    dynamo_engine_t functions{};
    void *user = nullptr;
    dynamo_release_callback_t release = nullptr;
    ~EngineType() {
        if (release != nullptr) {
            release(user);
        }
    }
};

// A started engine.
class Engine {
  public:
    // Throws Failure with what the engine said.
    static std::shared_ptr<Engine> start(const Config &config);

    // Throws Failure with what the engine said.
    void generate(dynamo_stream_t *stream, const std::string &request_id, const Body &body);
    void cancel(dynamo_stream_t *stream) noexcept;
    void space(dynamo_stream_t *stream) noexcept;
    void stop() noexcept;
    // What the engine says of what it loaded: a JSON object. Throws Failure if it is none.
    json::OrderedJson describe() const;
    // Appends the engine's own metrics, unless an instance of the same engine was asked already.
    void add_metrics(std::string &text, std::set<const EngineType *> &asked);
    const std::string &name() const noexcept { return name_; }
    // What it takes in place of OpenAI's bodies: "tokens" or "data"; else nullptr.
    const char *kind_name() const noexcept {
        return kind_ == DYNAMO_ENGINE_TOKENS ? "tokens"
               : kind_ == DYNAMO_ENGINE_DATA ? "data"
                                             : nullptr;
    }

  private:
    Engine(std::shared_ptr<EngineType> type, std::string name)
        : type_(std::move(type)), name_(std::move(name)), kind_(type_->functions.kind) {}
    void check(std::int32_t status, const char *function) const;

    std::mutex mutex_;  // guards type_ where it may be stopped meanwhile
    std::shared_ptr<EngineType> type_;
    std::string name_;
    std::int32_t kind_;
    void *instance_ = nullptr;
};

namespace engine_registry {

void add(const char *name, const dynamo_engine_t *functions, void *user,
         dynamo_release_callback_t release);
void remove(const char *name);  // not one of the library itself

// While it lives, what this thread adds is part of the library: nobody else may take or remove it.
class AddingBuiltIns {
  public:
    AddingBuiltIns() noexcept;
    ~AddingBuiltIns();
    AddingBuiltIns(const AddingBuiltIns &) = delete;
};

// Where engines come from that are not registered (yet): called with the configuration, returns the
// name of the registered engine that serves it. Throws Failure. Set once, before the first start.
using Fallback = std::string (*)(const Config &config);
void set_fallback(Fallback fallback) noexcept;

std::vector<std::string> names();

}  // namespace engine_registry
}  // namespace dynamo
