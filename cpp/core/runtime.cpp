// SPDX-License-Identifier: Apache-2.0
#include "core/runtime.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "core/log.hpp"
#include "core/platform.hpp"
#include "core/request.hpp"
#include "core/schema.hpp"
#include "core/timer.hpp"

namespace dynamo {
namespace {

// How long shutdown and destroy wait for an engine to stop; documented in dynamo_llm.h.
constexpr std::chrono::seconds patience{10};

// Those whose engines had to stay, for lack of a thread that could stop them. Never destroyed: engines may
// end while the process does.
union Unstopped {
    struct {
        std::mutex mutex;
        std::shared_ptr<Runtime> first;
    } value;
    constexpr Unstopped() : value() {}
    ~Unstopped() {}
};
constinit Unstopped unstopped;

// One of several models, whose errors say which.
std::unique_ptr<Model> start_named(const Config &config) {
    try {
        return std::make_unique<Model>(config);
    } catch (const Failure &failure) {
        Error error = failure.error();
        error.message = "model \"" + config.name + "\": " + error.message;
        throw Failure(std::move(error));
    }
}

}  // namespace

Runtime::Runtime(const Config &config)
    : stream_limits_(config.stream), limits_(config.limits), admission_(config.limits) {}

std::shared_ptr<Runtime> Runtime::create(const Config &config) {
    platform::guard_fork();
    stop_unstopped();
    if (config.limits.is_on()) {
        timer::at(Clock::now(), [] {});  // starts the thread that will start requests
    }
    // Nothing may fail between the start of an engine and its place here.
    const std::shared_ptr<Runtime> runtime(new Runtime(config));
    std::vector<std::unique_ptr<Model>> &models = runtime->models_;
    models.reserve(std::max<std::size_t>(1, config.models.size()));
    try {
        if (config.models.empty()) {
            models.push_back(std::make_unique<Model>(config));
        }
        for (const Config &each : config.models) {
            models.push_back(start_named(each));
        }
    } catch (...) {
        for (const auto &model : models) {
            model->engine().stop();
        }
        throw;
    }
    return runtime;
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
    const std::string near = nearest(body.model, names);
    throw Failure(DYNAMO_ERROR_MODEL_NOT_FOUND,
                  "this runtime has no model \"" + body.model + "\"; " +
                      (near.empty() ? "" : "did you mean \"" + near + "\"? ") +
                      "Its models: " + join(names));
}

bool Runtime::admit(const std::shared_ptr<Request> &request, Model &model, const Body &body) {
    const std::uint64_t context = model.context_length().value_or(0);
    const std::uint64_t answer =
        body.max_tokens.value_or(context > body.prompt_tokens ? context - body.prompt_tokens : 0);
    const std::lock_guard lock(mutex_);
    if (closed_) {
        throw Failure(DYNAMO_ERROR_CLOSED, "the runtime was shut down and takes no more requests");
    }
    return admission_.admit(request, model, body.prompt_tokens + body.n * answer, body.priority);
}

void Runtime::enqueue(Request *request) {
    std::unique_lock lock(mutex_);
    admission_.enqueue(request);
    start_waiting(lock);
}

// Starts those that wait and have a place now, in a thread of the library: an engine may call from
// where it cannot take a request. With the lock.
void Runtime::start_waiting(std::unique_lock<std::mutex> &lock) {
    while (std::shared_ptr<Request> request = admission_.next()) {
        try {
            timer::at(Clock::now(), [request] { request->start(); });
        } catch (const std::exception &) {
            lock.unlock();
            request->start();
            lock.lock();
        }
    }
}

void Runtime::dismiss(Request *request, std::uint64_t pushed, std::uint64_t full) {
    std::shared_ptr<Request> keep;  // its destructor runs without the lock
    std::unique_lock lock(mutex_);
    keep = admission_.leave(request);
    pushed_tokens_ += pushed;
    times_full_ += full;
    start_waiting(lock);
    if (admission_.is_empty()) {
        changed_.notify_all();
        stop_engines_if_idle(lock, IfNoThread::later);
    }
}

void Runtime::stop_engines() {
    for (const auto &model : models_) {
        model->engine().stop();
    }
    const std::lock_guard lock(mutex_);
    engine_state_ = EngineState::stopped;
    changed_.notify_all();
}

// Allocates nothing. With the lock.
void Runtime::cancel_all(std::unique_lock<std::mutex> &lock) {
    while (true) {
        std::array<std::shared_ptr<Request>, 64> some;
        std::size_t count = 0;
        for (const auto &[key, entry] : admission_.requests()) {
            if (!entry.request->has_ended()) {
                some[count++] = entry.request;
            }
            if (count == some.size()) {
                break;
            }
        }
        lock.unlock();
        for (auto &request : some) {
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

// An engine's stop function may block, and the last request may end in the engine's own thread, so
// it gets a thread of its own.
void Runtime::stop_engines_if_idle(std::unique_lock<std::mutex> &lock, IfNoThread otherwise) {
    if (!closed_ || !admission_.is_empty() || engine_state_ != EngineState::running) {
        return;
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
        log::write(DYNAMO_LOG_ERROR, "dynamo_llm.runtime", "an engine is not stopped yet:");
        log::write(DYNAMO_LOG_ERROR, "dynamo_llm.runtime", error.what());
        lock.lock();
        engine_state_ = EngineState::running;
        if (!is_unstopped_) {
            is_unstopped_ = true;
            const std::lock_guard others(unstopped.value.mutex);
            next_unstopped_ = std::exchange(unstopped.value.first, shared_from_this());
        }
        changed_.notify_all();
    }
}

void Runtime::stop_unstopped() {
    std::unique_lock others(unstopped.value.mutex);
    std::shared_ptr<Runtime> runtime = std::exchange(unstopped.value.first, nullptr);
    others.unlock();
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
        // Where an engine's thread was to begin the stop, and the system had no thread, it is left to
        // this one.
        stop_engines_if_idle(lock, IfNoThread::here);
        if (engine_state_ != EngineState::stopped &&
            changed_.wait_until(lock, until) == std::cv_status::timeout) {
            break;
        }
    }
    return engine_state_ == EngineState::stopped;
}

std::string Runtime::shutdown(std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    closed_ = true;
    const auto idle = [this] { return admission_.is_empty() && publications_ == 0; };
    if (until) {
        changed_.wait_until(lock, *until, idle);
    } else {
        changed_.wait(lock, idle);
    }
    const std::size_t left = admission_.requests().size();
    cancel_all(lock);
    // An end that is on its way arrives by itself, and soon.
    changed_.wait(lock, [this] { return publications_ == 0; });
    const bool has_stopped = wait_until_stopped(lock, Clock::now() + patience);
    std::string trouble;
    if (left > 0) {
        trouble = std::to_string(left) + " request(s) had not ended in time and were cancelled";
    }
    if (!has_stopped) {
        trouble += trouble.empty() ? "" : "; ";
        trouble += "the engine " + engine_names() + " has not stopped yet";
    }
    return trouble;
}

void Runtime::abandon() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    stop_engines_if_idle(lock, IfNoThread::here);
    if (engine_state_ == EngineState::stopping &&
        !wait_until_stopped(lock, Clock::now() + patience)) {
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
        pushed += entry.request->pushed_tokens();
        full += entry.request->times_full();
    }
    return {
        {"engine", models_.front()->engine().name()},
        {"requests",
         {{"sent", sent_.load()},
          {"queued", admission_.waiting()},
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
    std::vector<Metrics::Source> sources;
    {
        const std::lock_guard lock(mutex_);
        for (const auto &model : models_) {
            sources.push_back({model->name(), model->engine().name(), &model->metrics(),
                               admission_.running(*model), admission_.waiting(*model)});
        }
    }
    std::string text = Metrics::write(sources);
    std::set<const EngineType *> asked;
    for (const auto &model : models_) {
        model->engine().add_metrics(text, asked);
    }
    return text;
}

}  // namespace dynamo
