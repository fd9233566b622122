// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine.hpp"

#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/schema.hpp"
#include "base/utf8.hpp"
#include "runtime/engine_registry.hpp"

namespace dynamo {

std::shared_ptr<Engine> Engine::start(const ModelConfig &config) {
    engine_registry::Resolved resolved = engine_registry::resolve(config);
    std::shared_ptr<Engine> engine(new Engine(std::move(resolved.type), config.engine));
    std::int32_t status = DYNAMO_OK;
    last_error::set(DYNAMO_OK);
    engine->call("start", [&] {
        status = engine->type_->functions.start(engine->type_->user, resolved.config.c_str(),
                                                &engine->instance_);
    });
    engine->check(status, "start");
    return engine;
}

// Records that this thread is inside a function of an engine.
class Engine::Call {
  public:
    Call(const Engine &engine, const char *function) noexcept
        : engine_(&engine), function_(function), outer_(innermost) {
        innermost = this;
    }
    ~Call() { innermost = outer_; }
    Call(const Call &) = delete;

    // function: nullptr: any function.
    static bool is_in(const Engine &engine, const char *function) noexcept {
        for (const Call *call = innermost; call != nullptr; call = call->outer_) {
            if (call->engine_ == &engine &&
                (function == nullptr || std::strcmp(call->function_, function) == 0)) {
                return true;
            }
        }
        return false;
    }

    static bool is_in_any(const char *function) noexcept {
        const Call *call = innermost;
        while (call != nullptr && std::strcmp(call->function_, function) != 0) {
            call = call->outer_;
        }
        return call != nullptr;
    }

  private:
    static thread_local const Call *innermost;
    const Engine *const engine_;
    const char *const function_;
    const Call *const outer_;
};

thread_local const Engine::Call *Engine::Call::innermost = nullptr;

class Engine::StopBlocker {
  public:
    explicit StopBlocker(Engine &engine) : engine_(engine) {
        const std::lock_guard lock(engine_.mutex_);
        is_open_ = !engine_.is_stopping_;
        engine_.stop_blockers_ += is_open_ ? 1 : 0;
    }
    ~StopBlocker() {
        if (is_open_) {
            const std::lock_guard lock(engine_.mutex_);
            if (--engine_.stop_blockers_ == 0) {
                engine_.unblocked_.notify_all();
            }
        }
    }
    StopBlocker(const StopBlocker &) = delete;
    bool is_open() const noexcept { return is_open_; }

  private:
    Engine &engine_;
    bool is_open_;
};

bool Engine::is_being_called() const noexcept {
    return Call::is_in(*this, nullptr);
}

bool Engine::is_starting() noexcept {
    return Call::is_in_any("start");
}

template <class Function>
void Engine::call(const char *name, Function &&function) const {
    CaughtException caught;
    try {
        const Call call(*this, name);
        function();
        return;
    }
    DYNAMO_RETHROW_THREAD_EXIT
    catch (...) {
        caught.describe();
    }
    if (!caught
             .is_out_of_memory()) {  // lack of memory is not the engine's fault, and is not logged
        callback::report(name, name_.c_str(), caught);
    }
    fail(name, caught);
}

void Engine::fail(const char *function, const CaughtException &caught) const {
    throw Failure(Error{.status = caught.is_out_of_memory() ? DYNAMO_ERROR_OUT_OF_MEMORY
                                                            : DYNAMO_ERROR_ENGINE_FAILED,
                        .message = std::string("the engine's ") + function + " function threw " +
                                   as_utf8(caught.text()),
                        .layer = "engine",
                        .engine = name_});
}

json::OrderedJson Engine::describe() {
    const StopBlocker blocker(*this);
    const char *text = nullptr;
    if (blocker.is_open() && !Call::is_in(*this, "describe") &&
        type_->functions.describe != nullptr) {
        call("describe", [&] { text = type_->functions.describe(instance_); });
    }
    if (text == nullptr) {
        return json::OrderedJson::object();
    }
    try {
        return json::parse_object(text, "description", DYNAMO_ERROR_ENGINE_FAILED);
    } catch (const Failure &failure) {
        throw Failure(Error{.status = DYNAMO_ERROR_ENGINE_FAILED,
                            .message = "the description of the engine \"" + name_ +
                                       "\" is not a JSON object: " + failure.what(),
                            .layer = "engine",
                            .engine = name_});
    }
}

void Engine::check(std::int32_t status, const char *function) const {
    if (status >= 0) {
        return;
    }
    Error error = last_error::copy();
    if (error.status != status || error.message.empty()) {
        error = {.status = status,
                 .message = std::string("the engine's ") + function + " function failed with " +
                            status_name(status) + ", without a message"};
    }
    error.layer = "engine";
    error.engine = status == DYNAMO_ERROR_ENGINE_NOT_FOUND ? redacted(name_) : name_;
    throw Failure(std::move(error));
}

void Engine::generate(dynamo_stream_t *stream, const std::string &request_id, const Body &body) {
    const dynamo_engine_t &functions = type_->functions;
    if (body.is_call()) {
        std::int32_t status = DYNAMO_OK;
        last_error::set(DYNAMO_OK);
        call("call", [&] {
            status = functions.call(instance_, stream, request_id.c_str(), body.call.c_str(),
                                    body.text.c_str());
        });
        check(status, "call");
        return;
    }
    const bool is_raw = body.kind == BodyKind::raw;
    if (is_raw ? functions.generate_data == nullptr : functions.generate == nullptr) {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                      "the engine \"" + name_ + "\" accepts " +
                          (is_raw ? "OpenAI bodies only, not raw requests"
                                  : "raw requests only, not OpenAI bodies"));
    }
    std::int32_t status = DYNAMO_OK;
    last_error::set(DYNAMO_OK);
    const char *const function = is_raw ? "generate_data" : "generate";
    call(function, [&] {
        const dynamo_data_t data = {body.text.c_str(), body.text.size(), body.payload_kind};
        status = is_raw
                     ? functions.generate_data(instance_, stream, request_id.c_str(), &data)
                     : functions.generate(instance_, stream, request_id.c_str(), body.text.c_str());
    });
    check(status, function);
}

void Engine::cancel(dynamo_stream_t *stream) {
    const Call call(*this, "cancel");
    callback::call("cancel", [&] { type_->functions.cancel(instance_, stream); }, name_.c_str());
}

void Engine::notify_writable(dynamo_stream_t *stream) {
    if (type_->functions.on_writable != nullptr) {
        call("on_writable", [&] { type_->functions.on_writable(instance_, stream); });
    }
}

void Engine::stop() {
    const Call call(*this, "stop");  // covers the release of the engine's user data
    std::shared_ptr<EngineType>
        type;  // moved out, because finished requests may keep this object alive
    {
        std::unique_lock lock(mutex_);
        is_stopping_ = true;
        unblocked_.wait(lock, [this] { return stop_blockers_ == 0; });
        type = std::move(type_);
    }
    callback::call("stop", [&] { type->functions.stop(instance_); }, name_.c_str());
}

void Engine::add_metrics(std::string &text, std::set<const EngineType *> &asked) {
    if (Call::is_in(*this, "metrics")) {
        return;  // the engine's metrics function, or a log callback within it, requested the metrics
    }
    const StopBlocker blocker(*this);
    if (!blocker.is_open() || type_->functions.metrics == nullptr ||
        !asked.insert(type_.get()).second) {
        return;
    }
    struct Lines {
        std::string text;
        bool is_out_of_memory = false;
    } lines;
    // Must not throw through the engine, which may be written in C.
    const auto write = [](void *context, const char *more) noexcept {
        auto &into = *static_cast<Lines *>(context);
        try {
            into.text += more == nullptr ? "" : more;
            if (!into.text.empty() && into.text.back() != '\n') {
                into.text += '\n';
            }
        } catch (const std::bad_alloc &) {
            into.is_out_of_memory = true;
        }
    };
    const Call call(*this, "metrics");
    if (!callback::call(
            "metrics", [&] { type_->functions.metrics(instance_, write, &lines); },
            name_.c_str())) {
        return;
    }
    if (lines.is_out_of_memory) {
        throw std::bad_alloc();
    }
    text += lines.text;
}

}  // namespace dynamo
