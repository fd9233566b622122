// SPDX-License-Identifier: Apache-2.0
// A registered engine, and an instance of it: the calls of its functions.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "base/callback.hpp"
#include "base/error.hpp"
#include "base/json.hpp"
#include "dynamo_llm/engine.h"
#include "runtime/body.hpp"
#include "runtime/config.hpp"

namespace dynamo {

// A registered engine. Lives until it is unregistered and its last instance is destroyed.
struct EngineType {
    bool is_built_in = false;
    bool is_hosted = false;  // see base/wait_check.hpp
    dynamo_engine_t functions{};
    void *user = nullptr;
    dynamo_release_callback_t release = nullptr;
    ~EngineType() {
        if (release != nullptr) {
            callback::call("release callback of dynamo_engine_register()",
                           [this] { release(user); });
        }
    }
};

// A started engine. No lock is held while one of its functions runs, and exceptions of these functions are caught.
class Engine {
  public:
    // Throws Failure with the engine's error.
    static std::shared_ptr<Engine> start(const ModelConfig &config);

    // Passes a request or a control call to the engine. Throws Failure with the engine's error.
    void generate(dynamo_stream_t *stream, const std::string &request_id, const Body &body);
    void cancel(dynamo_stream_t *stream);
    // Throws Failure with ENGINE_FAILED if the engine's function threw; then it may never push again.
    void notify_writable(dynamo_stream_t *stream);
    // Waits until describe() and add_metrics() have returned in other threads.
    void stop();
    // Returns the engine's description of what it loaded; empty once the engine is stopped. Throws Failure if the
    // description is not a JSON object.
    json::OrderedJson describe();
    // Appends the engine's own metrics, unless `asked` has the same engine.
    void add_metrics(std::string &text, std::set<const EngineType *> &asked);
    const std::string &name() const noexcept { return name_; }
    // Whether the engine has a function for control calls.
    bool takes_calls() const noexcept { return takes_calls_; }
    // Whether the engine belongs to a host, such as Python; see base/wait_check.hpp.
    bool is_hosted() const noexcept { return is_hosted_; }
    // The engine's own pointer, for functions beside those of dynamo_engine_t.
    void *instance() const noexcept { return instance_; }
    // Throws Failure for a negative status of the engine's function `function`, with the details that the engine gave
    // to dynamo_engine_error().
    void check(std::int32_t status, const char *function) const;
    // Whether this thread is inside a function of the engine, and so must not wait for it.
    bool is_being_called() const noexcept;
    // Whether this thread is inside the start function of an engine.
    static bool is_starting() noexcept;
    // Returns "tokens" or "data", which the engine accepts instead of OpenAI bodies; otherwise nullptr.
    const char *kind_name() const noexcept {
        return kind_ == DYNAMO_ENGINE_TOKENS ? "tokens"
               : kind_ == DYNAMO_ENGINE_DATA ? "data"
                                             : nullptr;
    }

  private:
    Engine(std::shared_ptr<EngineType> type, std::string name)
        : type_(std::move(type)),
          name_(std::move(name)),
          kind_(type_->functions.kind),
          is_hosted_(type_->is_hosted),
          takes_calls_(type_->functions.call != nullptr) {}
    class Call;         // while this thread is in a function of the engine
    class StopBlocker;  // makes stop() wait
    // Calls a function of the engine. Throws Failure with ENGINE_FAILED, or OUT_OF_MEMORY, if it throws.
    template <class Function>
    void call(const char *name, Function &&function) const;
    [[noreturn]] void fail(const char *function, const CaughtException &caught) const;

    std::mutex mutex_;  // guards what follows
    std::condition_variable unblocked_;
    int stop_blockers_ = 0;
    bool is_stopping_ = false;
    std::shared_ptr<EngineType> type_;  // nullptr once it is stopped
    std::string name_;
    std::int32_t kind_;
    bool is_hosted_;
    bool takes_calls_;
    void *instance_ = nullptr;
};

}  // namespace dynamo
