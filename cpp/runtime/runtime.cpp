// SPDX-License-Identifier: Apache-2.0
#include "runtime/runtime.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "base/platform.hpp"
#include "base/schema.hpp"
#include "base/wait_check.hpp"
#include "runtime/metrics.hpp"
#include "runtime/request.hpp"
#include "runtime/start_progress.hpp"
#include "stream/dispatcher.hpp"
#include "stream/timer.hpp"

namespace dynamo {
namespace {

// How long shutdown and destroy wait for an engine to stop, as documented in dynamo_llm.h.
constexpr std::chrono::seconds engine_stop_timeout{10};

// Runtimes whose engines still run, because the system had no thread to stop them. Never destroyed, because engines may
// end while the process exits.
union UnstoppedRuntimes {
    struct {
        std::mutex mutex;
        std::shared_ptr<Runtime> first;
    } value;
    constexpr UnstoppedRuntimes() : value() {}
    ~UnstoppedRuntimes() {}
};
constinit UnstoppedRuntimes unstopped;

// Starts a model of a list; errors name the model.
std::unique_ptr<Model> start_named(const ModelConfig &config) {
    try {
        return std::make_unique<Model>(config);
    } catch (const Failure &failure) {
        throw failure.with_context("model \"" + config.name + "\": ");
    }
}

}  // namespace

Runtime::Runtime(const RuntimeConfig &config)
    : stream_limits_(config.stream), limits_(config.limits), admission_(config.limits) {}

std::shared_ptr<Runtime> Runtime::create(const RuntimeConfig &config, const char *call) {
    wait_check::require_allowed(call, false);
    platform::guard_fork();
    stop_unstopped();
    if (config.limits.is_on()) {
        timer::at(Clock::now(),
                  [] {});  // starts the timer thread, which will start queued requests
    }
    // Reserves memory first: nothing may fail between the start of an engine and its insertion here.
    const std::shared_ptr<Runtime> runtime(new Runtime(config));
    std::vector<std::unique_ptr<Model>> &models = runtime->models_;
    models.reserve(config.models.size());
    try {
        for (const ModelConfig &model : config.models) {
            if (!Engine::is_starting()) {  // an engine that creates a runtime reports for itself
                start_progress::begin_model(model.name);
            }
            models.push_back(config.has_model_list ? start_named(model)
                                                   : std::make_unique<Model>(model));
        }
    } catch (...) {
        for (const auto &model : models) {
            model->engine().stop();
        }
        throw;
    }
    return runtime;
}

std::string Runtime::call(const char *name, std::string_view arguments, std::int64_t timeout_ms) {
    constexpr const char *function = "dynamo_runtime_call()";
    wait_check::require_allowed(function, false);
    Body body = Body::control(name, arguments);
    Model &model = model_for(body);
    wait_check::require_allowed(function, model.engine().is_hosted());
    if (model.engine().is_being_called()) {
        throw Failure(
            DYNAMO_ERROR_INVALID_STATE,
            std::string(function) +
                " was called in a callback of the engine that is to answer, for whose return "
                "it would wait; call it in another thread");
    }
    const auto request = std::make_shared<Request>(std::move(body));
    request->set_deadlines(-1, timeout_ms);
    request->send(shared_from_this());
    std::shared_ptr<Response> response;
    const std::int32_t status = request->take(std::nullopt, response);
    model.refresh();
    if (status == DYNAMO_END || response->payloads == nullptr) {
        return "null";
    }
    if (response->payloads->size() != 1 || response->payloads->front().kind != DYNAMO_DATA_JSON) {
        throw Failure(Error{.status = DYNAMO_ERROR_ENGINE_FAILED,
                            .message = "the engine answered the call with " +
                                       std::to_string(response->payloads->size()) +
                                       " payloads; one JSON payload is right",
                            .layer = "engine",
                            .engine = model.engine().name()});
    }
    return std::move(response->payloads->front().bytes);
}

Model &Runtime::model_for(const Body &body) const {
    if (body.model.empty() || (models_.size() == 1 && models_.front()->has_any_name())) {
        return *models_.front();
    }
    std::vector<std::string> names;
    for (const auto &model : models_) {
        if (model->is_called(body.model)) {
            return *model;
        }
        model->add_names(names);
    }
    const std::string suggestion = nearest(body.model, names);
    throw Failure(DYNAMO_ERROR_MODEL_NOT_FOUND,
                  "this runtime has no model \"" + body.model + "\"; " +
                      (suggestion.empty() ? "" : "did you mean \"" + suggestion + "\"? ") +
                      "Its models: " + join(names));
}

bool Runtime::admit(const std::shared_ptr<Request> &request, Model &model, const Body &body) {
    const std::uint64_t context = model.context_length().value_or(0);
    // Of one choice for each prompt: at most what the prompts leave of the context.
    const std::uint64_t contexts = context * body.prompts;
    const std::uint64_t answers = body.max_tokens
                                      ? *body.max_tokens * body.prompts
                                      : contexts - std::min(contexts, body.prompt_tokens);
    const std::lock_guard lock(mutex_);
    if (closed_) {
        throw Failure(DYNAMO_ERROR_CLOSED,
                      "the runtime was shut down and accepts no more requests");
    }
    if (body.is_call()) {
        admission_.admit_call(request, model);
        return true;
    }
    return admission_.admit(request, model, body.prompt_tokens + body.n * answers, body.priority);
}

void Runtime::enqueue(Request *request) {
    std::unique_lock lock(mutex_);
    admission_.enqueue(request);
    start_queued(lock);
}

// Starts the queued requests that have a slot now, in the timer thread: an engine may have called from a context in
// which it cannot accept a request. Requires the lock, and holds it again on return.
void Runtime::start_queued(std::unique_lock<std::mutex> &lock) {
    while (std::shared_ptr<Request> request = admission_.start_next()) {
        try {
            timer::at(Clock::now(), [request] { request->start(); });
        } catch (const std::exception &) {
            lock.unlock();
            request->start();
            request.reset();  // without the lock
            lock.lock();
        }
    }
}

void Runtime::dismiss(Request *request, std::uint64_t pushed, std::uint64_t full) {
    std::shared_ptr<Request> keep;  // its destructor runs without the lock
    std::unique_lock lock(mutex_);
    keep = admission_.remove(request);
    pushed_tokens_ += pushed;
    times_full_ += full;
    start_queued(lock);
    if (admission_.is_empty()) {
        changed_.notify_all();
        stop_engines_if_idle(lock, IfNoThread::later);
    }
}

void Runtime::stop_engines() {
    // Runs even if an engine ends this thread.
    struct Stopped {
        Runtime &runtime;
        ~Stopped() {
            const std::lock_guard lock(runtime.mutex_);
            runtime.engine_state_ = EngineState::stopped;
            runtime.changed_.notify_all();
        }
    };
    const Stopped stopped{*this};
    for (const auto &model : models_) {
        model->engine().stop();
    }
}

// Allocates nothing. Requires the lock, and holds it again on return.
void Runtime::cancel_all(std::unique_lock<std::mutex> &lock) {
    while (true) {
        std::array<std::shared_ptr<Request>, 64> batch;
        std::size_t count = 0;
        for (const auto &[key, entry] : admission_.requests()) {
            if (!entry.request->has_ended()) {
                batch[count++] = entry.request;
            }
            if (count == batch.size()) {
                break;
            }
        }
        lock.unlock();
        for (auto &request : batch) {
            if (request != nullptr) {
                request->cancel("the runtime was shut down");
                request.reset();
            }
        }
        lock.lock();
        if (count == 0) {
            return;
        }
    }
}

// Stops the engines in a new thread, because a stop function may block and the last request may end in the engine's own
// thread.
void Runtime::stop_engines_if_idle(std::unique_lock<std::mutex> &lock, IfNoThread otherwise) {
    if (!closed_ || !admission_.is_empty() || engine_state_ != EngineState::running) {
        return;
    }
    if (is_being_called()) {
        otherwise = IfNoThread::later;
    }
    engine_state_ = EngineState::stopping;
    try {
        platform::start_thread("dynamo-stop",
                               [self = shared_from_this()] { self->stop_engines(); });
    } catch (const std::exception &error) {
        lock.unlock();
        if (otherwise == IfNoThread::here) {
            stop_engines();
            lock.lock();
            return;
        }
        log::write(DYNAMO_LOG_ERROR, "dynamo_llm.runtime", "cannot stop an engine yet:");
        log::write(DYNAMO_LOG_ERROR, "dynamo_llm.runtime", error.what());
        lock.lock();
        engine_state_ = EngineState::running;
        if (!is_unstopped_) {
            is_unstopped_ = true;
            const std::lock_guard list_lock(unstopped.value.mutex);
            next_unstopped_ = std::exchange(unstopped.value.first, shared_from_this());
        }
        changed_.notify_all();
    }
}

void Runtime::stop_unstopped() {
    std::unique_lock list_lock(unstopped.value.mutex);
    std::shared_ptr<Runtime> runtime = std::exchange(unstopped.value.first, nullptr);
    list_lock.unlock();
    while (runtime != nullptr) {
        std::unique_lock lock(runtime->mutex_);
        runtime->is_unstopped_ = false;
        std::shared_ptr<Runtime> next = std::move(runtime->next_unstopped_);
        runtime->stop_engines_if_idle(lock, IfNoThread::here);
        lock.unlock();
        runtime = std::move(next);
    }
}

bool Runtime::wait_until_stopped(std::unique_lock<std::mutex> &lock, Clock::time_point until) {
    while (engine_state_ != EngineState::stopped) {
        // If the system had no thread when an engine's thread should have begun the stop, this one does it.
        stop_engines_if_idle(lock, IfNoThread::here);
        if (engine_state_ != EngineState::stopped &&
            changed_.wait_until(lock, until) == std::cv_status::timeout) {
            break;
        }
    }
    return engine_state_ == EngineState::stopped;
}

bool Runtime::is_hosted() const noexcept {
    return std::any_of(models_.begin(), models_.end(),
                       [](const auto &model) { return model->engine().is_hosted(); });
}

bool Runtime::is_being_called() const noexcept {
    return std::any_of(models_.begin(), models_.end(),
                       [](const auto &model) { return model->engine().is_being_called(); });
}

// Throws Failure with INVALID_STATE if shutdown() would wait for this very thread.
void Runtime::require_may_wait(bool has_deadline) {
    constexpr const char *call = "dynamo_runtime_shutdown()";
    wait_check::require_allowed(call, false);
    std::unique_lock lock(mutex_);
    if (engine_state_ == EngineState::stopped) {
        return;  // shutdown() will not wait
    }
    std::vector<std::shared_ptr<Request>> in_flight;  // destroyed without the lock
    if (!has_deadline && dispatcher::is_this_thread()) {
        for (const auto &[key, entry] : admission_.requests()) {
            in_flight.push_back(entry.request);
        }
    }
    lock.unlock();
    wait_check::require_allowed(call, is_hosted());
    const auto reject = [](const char *why) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE, std::string(call) + " was called " + why);
    };
    if (is_being_called()) {
        reject(
            "in a callback of the runtime's own engine, for whose return it would wait; call it in "
            "another thread");
    }
    if (std::any_of(in_flight.begin(), in_flight.end(),
                    [](const auto &request) { return request->has_callback(); })) {
        reject(
            "in a callback, without a time limit, while other requests deliver to callbacks, which "
            "this thread would have to call; give a timeout_ms, or call it in another thread");
    }
}

std::string Runtime::shutdown(std::optional<Clock::time_point> until) {
    require_may_wait(until.has_value());
    std::unique_lock lock(mutex_);
    closed_ = true;
    const auto idle = [this] { return admission_.is_empty() && publications_ == 0; };
    wait_until(changed_, lock, until, idle);
    const std::size_t left = admission_.requests().size();
    cancel_all(lock);
    // Publications finish by themselves, and soon.
    changed_.wait(lock, [this] { return publications_ == 0; });
    const bool has_stopped = wait_until_stopped(lock, Clock::now() + engine_stop_timeout);
    std::string problems;
    if (left > 0) {
        problems = std::to_string(left) + " request(s) did not end in time and were cancelled";
    }
    if (!has_stopped) {
        problems += problems.empty() ? "" : "; ";
        problems += "the engine " + engine_names() + " has not stopped yet";
    }
    return problems;
}

void Runtime::abandon() {
    const bool may_wait =
        wait_check::is_allowed(is_hosted()) && !dispatcher::is_this_thread() && !is_being_called();
    std::unique_lock lock(mutex_);
    closed_ = true;
    stop_engines_if_idle(lock, may_wait ? IfNoThread::here : IfNoThread::later);
    if (may_wait && engine_state_ == EngineState::stopping &&
        !wait_until_stopped(lock, Clock::now() + engine_stop_timeout)) {
        lock.unlock();
        log::write(DYNAMO_LOG_WARNING, "dynamo_llm.runtime",
                   ("the engine " + engine_names() + " has not stopped yet").c_str());
    }
}

Runtime::Publication::Publication(std::shared_ptr<Runtime> runtime) : runtime_(std::move(runtime)) {
    const std::lock_guard lock(runtime_->mutex_);
    ++runtime_->publications_;
}

Runtime::Publication::~Publication() {
    const std::lock_guard lock(runtime_->mutex_);
    if (--runtime_->publications_ == 0) {
        runtime_->changed_.notify_all();
    }
}

void Runtime::count_end(std::int32_t status) {
    auto &counter = status == DYNAMO_END               ? ended_
                    : status == DYNAMO_ERROR_CANCELLED ? cancelled_
                                                       : failed_;
    counter.fetch_add(1, std::memory_order_relaxed);
}

void Runtime::count_received(std::uint64_t tokens) {
    received_tokens_.fetch_add(tokens, std::memory_order_relaxed);
}

std::string Runtime::engine_names() const {
    std::string names;
    for (const auto &model : models_) {
        names += (names.empty() ? "\"" : ", \"") + model->engine().name() + "\"";
    }
    return names;
}

json::OrderedJson Runtime::statistics() const {
    std::unique_lock lock(mutex_);
    std::uint64_t pushed = pushed_tokens_;
    std::uint64_t full = times_full_;
    for (const auto &[key, entry] : admission_.requests()) {
        if (entry.is_call) {
            continue;
        }
        pushed += entry.request->pushed_tokens();
        full += entry.request->times_full();
    }
    return {
        {"engine", models_.front()->engine().name()},
        {"requests",
         {{"sent", sent_.load()},
          {"queued", admission_.queued()},
          {"in_flight", admission_.running()},
          {"ended", ended_.load()},
          {"cancelled", cancelled_.load()},
          {"failed", failed_.load()}}},
        {"tokens", {{"pushed", pushed}, {"received", received_tokens_.load()}}},
        {"streams", {{"full", full}}},
    };
}

json::OrderedJson Runtime::models() const {
    json::OrderedJson list = {{"object", "list"}, {"data", json::OrderedJson::array()}};
    for (const auto &model : models_) {
        model->add_json(list["data"]);
    }
    return list;
}

std::string Runtime::metrics() const {
    std::vector<metrics::Source> sources;
    {
        const std::lock_guard lock(mutex_);
        for (const auto &model : models_) {
            sources.push_back({model->name(), model->engine().name(), &model->counters(),
                               admission_.running(*model), admission_.queued(*model)});
        }
    }
    std::string text = metrics::write(sources);
    std::set<const EngineType *> asked;
    for (const auto &model : models_) {
        model->engine().add_metrics(text, asked);
    }
    return text;
}

}  // namespace dynamo
