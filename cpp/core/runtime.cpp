// SPDX-License-Identifier: Apache-2.0
#include "core/runtime.hpp"

#include <nlohmann/json.hpp>
#include <vector>

#include "core/log.hpp"
#include "core/platform.hpp"
#include "core/request.hpp"

namespace dynamo {
namespace {

// How long shutdown and destroy wait for an engine to stop; documented in dynamo_llm.h.
constexpr std::chrono::seconds patience{10};

}  // namespace

Runtime::Runtime(std::shared_ptr<Engine> engine, const Config &config)
    : engine_(std::move(engine)),
      limits_(config.stream),
      model_(config.model.empty() ? config.engine : config.model) {}

std::shared_ptr<Runtime> Runtime::create(const Config &config) {
    platform::guard_fork();
    const std::shared_ptr<Engine> engine = Engine::start(config);
    try {
        return std::shared_ptr<Runtime>(new Runtime(engine, config));
    } catch (...) {
        engine->stop();
        throw;
    }
}

void Runtime::admit(const std::shared_ptr<Request> &request) {
    const std::lock_guard lock(mutex_);
    if (closed_) {
        throw Failure(DYNAMO_ERROR_CLOSED, "the runtime was shut down and takes no more requests");
    }
    in_flight_.emplace(request.get(), request);
}

void Runtime::dismiss(Request *request, std::uint64_t pushed, std::uint64_t full) {
    std::shared_ptr<Request> keep;  // its destructor runs without the lock
    std::unique_lock lock(mutex_);
    if (const auto found = in_flight_.find(request); found != in_flight_.end()) {
        keep = std::move(found->second);
        in_flight_.erase(found);
    }
    pushed_tokens_ += pushed;
    times_full_ += full;
    if (in_flight_.empty()) {
        changed_.notify_all();
        stop_engine_if_idle(lock);
    }
}

// The engine's stop function may block, and the last request may end in the engine's own thread, so
// it gets a thread of its own.
void Runtime::stop_engine_if_idle(std::unique_lock<std::mutex> &lock) {
    if (!closed_ || !in_flight_.empty() || engine_state_ != EngineState::running) {
        return;
    }
    engine_state_ = EngineState::stopping;
    const auto stop = [self = shared_from_this()] {
        self->engine_->stop();
        const std::lock_guard lock(self->mutex_);
        self->engine_state_ = EngineState::stopped;
        self->changed_.notify_all();
    };
    try {
        platform::start_thread("dynamo-stop", stop);
    } catch (const std::exception &error) {
        // Better than to block this thread, which may be the engine's own: shutdown() tries again.
        engine_state_ = EngineState::running;
        lock.unlock();
        log::write(DYNAMO_LOG_ERROR, "dynamo_llm.runtime",
                   (std::string("an engine was not stopped: ") + error.what()).c_str());
        lock.lock();
    }
}

bool Runtime::wait_until_stopped(std::unique_lock<std::mutex> &lock, Clock::time_point until) {
    return changed_.wait_until(lock, until,
                               [this] { return engine_state_ == EngineState::stopped; });
}

std::string Runtime::shutdown(std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    closed_ = true;
    const auto idle = [this] { return in_flight_.empty() && publications_ == 0; };
    if (until) {
        changed_.wait_until(lock, *until, idle);
    } else {
        changed_.wait(lock, idle);
    }
    std::string trouble;
    if (!in_flight_.empty()) {
        std::vector<std::shared_ptr<Request>> left;
        for (const auto &[key, request] : in_flight_) {
            left.push_back(request);
        }
        trouble =
            std::to_string(left.size()) + " request(s) had not ended in time and were cancelled";
        lock.unlock();
        for (const auto &request : left) {
            request->cancel("the runtime was shut down");
        }
        left.clear();
        lock.lock();
    }
    // An end that is on its way arrives by itself, and soon.
    changed_.wait(lock, [this] { return publications_ == 0; });
    stop_engine_if_idle(lock);
    if (!wait_until_stopped(lock, Clock::now() + patience)) {
        trouble += trouble.empty() ? "" : "; ";
        trouble += "the engine \"" + engine_->name() + "\" has not stopped yet";
    }
    return trouble;
}

void Runtime::abandon() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    stop_engine_if_idle(lock);
    if (engine_state_ == EngineState::stopping &&
        !wait_until_stopped(lock, Clock::now() + patience)) {
        lock.unlock();
        log::write(DYNAMO_LOG_WARNING, "dynamo_llm.runtime",
                   ("the engine \"" + engine_->name() + "\" has not stopped yet").c_str());
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

json::OrderedJson Runtime::statistics() const {
    std::unique_lock lock(mutex_);
    std::uint64_t pushed = pushed_tokens_;
    std::uint64_t full = times_full_;
    for (const auto &[key, request] : in_flight_) {
        pushed += request->pushed_tokens();
        full += request->times_full();
    }
    return {
        {"engine", engine_->name()},
        {"requests",
         {{"sent", sent_.load()},
          {"in_flight", in_flight_.size()},
          {"ended", ended_.load()},
          {"cancelled", cancelled_.load()},
          {"failed", failed_.load()}}},
        {"tokens", {{"pushed", pushed}, {"received", received_tokens_.load()}}},
        {"streams", {{"full", full}}},
    };
}

}  // namespace dynamo
