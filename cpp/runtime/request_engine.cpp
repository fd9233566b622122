// SPDX-License-Identifier: Apache-2.0
// The engine's side of a request.
#include <chrono>
#include <thread>
#include <utility>

#include "runtime/request.hpp"
#include "runtime/runtime.hpp"

namespace dynamo {
namespace {

[[noreturn]] void reject_stale() {
    throw Failure(DYNAMO_ERROR_INVALID_HANDLE,
                  "not a valid stream: the engine refused the request, or finished or failed the "
                  "stream before");
}

}  // namespace

Request::EngineCall::EngineCall(Request &request) : request_(request) {
    const std::lock_guard lock(request_.mutex_);
    // In Phase::starting, accept() does what the call would have done.
    if (request_.engine_handle_ != nullptr && request_.phase_ != Phase::starting) {
        ++request_.engine_calls_;
        handle_ = request_.engine_handle_;
        is_counted_ = true;
    }
}

Request::EngineCall::~EngineCall() {
    if (is_counted_) {
        request_.end_engine_call();
    }
}

std::int64_t Request::remaining_ms(const dynamo_stream_t *engine) const {
    const std::lock_guard lock(mutex_);
    if (engine_handle_ != engine) {
        reject_stale();
    }
    return deadlines_.remaining_ms();
}

Stream::PushResult Request::wait_until_writable(const dynamo_stream_t *engine,
                                                std::optional<Clock::time_point> until) {
    // Only the callback makes the stream writable, and this very thread would have to call it.
    if (dispatcher::is_this_thread() && has_callback()) {
        const Clock::time_point now = Clock::now();
        const Stream::PushResult state = stream_.wait_until_writable(engine, now);
        if (state != Stream::PushResult::full || (until && *until <= now)) {
            return state;
        }
        throw Failure(
            DYNAMO_ERROR_INVALID_STATE,
            "dynamo_stream_wait() was called in a callback, and the request delivers to a callback "
            "of the same thread, which alone can free capacity; wait in a thread of the engine");
    }
    return stream_.wait_until_writable(engine, until);
}

Stream::PushResult Request::overflow(const dynamo_stream_t *engine) {
    const Error error =
        make_error(DYNAMO_ERROR_SLOW_CONSUMER, [&] { return stream_.overflow_message(); });
    {
        const std::lock_guard lock(mutex_);
        if (engine_handle_ != engine) {
            return Stream::PushResult::stale;
        }
        if (phase_ == Phase::starting) {
            if (!trial_.engine_end) {
                trial_.engine_end.emplace();
                trial_.engine_end->error = error;
            }
            return Stream::PushResult::closed;
        }
    }
    if (stream_.claim_end()) {
        on_end_claimed(error.status);
        stream_.publish_error(error);
    }
    return Stream::PushResult::closed;
}

template <class MakeEnd>
std::shared_ptr<Runtime> Request::detach_engine(const dynamo_stream_t *engine, MakeEnd make_end) {
    {
        const std::lock_guard lock(mutex_);
        if (engine_handle_ != engine) {
            reject_stale();
        }
        engine_handle_ = nullptr;
        if (phase_ != Phase::starting) {
            return runtime_;
        }
        if (!trial_.engine_end) {
            EngineEnd &end = trial_.engine_end.emplace();
            try {
                make_end(end);
            } catch (const std::bad_alloc &) {  // the stream must still end
                end.error = Error{.status = DYNAMO_ERROR_OUT_OF_MEMORY};
            }
        }
    }
    stream_.detach(engine);
    return nullptr;
}

template <class Publish>
void Request::end_from_engine(const std::shared_ptr<Runtime> &runtime, std::int32_t status,
                              bool releases_engine, Publish publish) {
    const Runtime::Publication publication(runtime);
    const bool is_first = stream_.claim_end();
    if (is_first) {
        on_end_claimed(status);
    }
    if (releases_engine) {
        release_engine();
    }
    if (is_first) {
        publish();
    }
}

void Request::end_from_engine(const std::shared_ptr<Runtime> &runtime, const EngineEnd &end,
                              bool releases_engine) {
    if (end.error) {
        end_from_engine(runtime, end.error->status, releases_engine,
                        [&] { stream_.publish_error(*end.error); });
    } else {
        end_from_engine(runtime, DYNAMO_END, releases_engine, [&] {
            stream_.publish_finish(end.reason ? end.reason->c_str() : nullptr, end.usage);
        });
    }
}

void Request::finish(const dynamo_stream_t *engine, const char *reason,
                     const std::optional<Usage> &usage) {
    const auto runtime = detach_engine(engine, [&](EngineEnd &end) {
        end.usage = usage;
        if (reason != nullptr) {
            end.reason = reason;
        }
    });
    if (runtime != nullptr) {
        end_from_engine(runtime, DYNAMO_END, true, [&] { stream_.publish_finish(reason, usage); });
    }
}

void Request::fail(const dynamo_stream_t *engine, const Error &error) {
    const auto runtime = detach_engine(engine, [&](EngineEnd &end) { end.error = error; });
    if (runtime != nullptr) {
        end_from_engine(runtime, error.status, true, [&] { stream_.publish_error(error); });
    }
}

void Request::forward(const dynamo_stream_t *engine, const std::shared_ptr<Runtime> &target,
                      const Body &body) {
    Model &model = target->model_for(body);
    model.check_keys(body);
    model.check_kind(body.kind);
    dynamo_stream_t *const engine_handle = begin_forward(engine, target, model, body);
    try {
        model.engine().generate(engine_handle, id_, body);
    } catch (const Failure &failure) {
        if (take_back(engine_handle)) {
            throw;
        }
        const std::lock_guard lock(mutex_);  // it ended the stream, too
        trial_.engine_end.emplace().error = failure.error();
    } catch (...) {  // no memory, or the engine ends this thread
        if (!take_back(engine_handle)) {
            accept(model.engine(), engine_handle);
        }
        throw;
    }
    accept(model.engine(), engine_handle);
}

// Returns the handle of the stream. Afterwards the request is as if it were being sent.
dynamo_stream_t *Request::begin_forward(const dynamo_stream_t *engine,
                                        const std::shared_ptr<Runtime> &target, Model &model,
                                        const Body &body) {
    while (true) {
        {
            const std::lock_guard lock(mutex_);
            if (engine_handle_ != engine || next_model_ != nullptr) {
                reject_stale();
            }
            if (phase_ != Phase::starting) {
                if (!target->admit(shared_from_this(), model, body)) {
                    target->dismiss(this, 0, 0);
                    throw Failure(DYNAMO_ERROR_OVERLOADED,
                                  "the runtime that gets the request has no slot for it");
                }
                phase_ = Phase::starting;
                next_runtime_ = target;
                next_model_ = &model;
                ++engine_calls_;
                return engine_handle_;
            }
        }
        // The thread that sends the request is about to return from the engine's generate function.
        std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
}

// Gives the request back to the engine that had it, after another one refused it. Returns false if that one has ended the
// stream.
bool Request::take_back(dynamo_stream_t *engine_handle) {
    std::shared_ptr<Runtime> target;
    bool became_writable;
    {
        const std::lock_guard lock(mutex_);
        if (engine_handle_ == nullptr) {
            return false;
        }
        phase_ = Phase::sent;
        target = std::exchange(next_runtime_, nullptr);
        next_model_ = nullptr;
        became_writable = std::exchange(trial_, Trial()).became_writable;
    }
    target->dismiss(this, 0, 0);
    const EngineCall call(*this, EngineCall::already_counted);
    if (stream_.is_end_claimed()) {
        engine().cancel(engine_handle);
    } else if (became_writable) {
        notify_writable(engine(), engine_handle);
    }
    return true;
}

void Request::end_engine_call() {
    std::unique_lock lock(mutex_);
    --engine_calls_;
    dismiss_if_due(lock);
}

void Request::release_engine() {
    std::unique_lock lock(mutex_);
    engine_handle_ = nullptr;
    dismissal_is_due_ = true;
    dismiss_if_due(lock);
}

void Request::dismiss_if_due(std::unique_lock<std::mutex> &lock) {
    if (!dismissal_is_due_ || engine_calls_ > 0) {
        return;
    }
    dismissal_is_due_ = false;
    const std::shared_ptr<Runtime> runtime = runtime_;
    const std::shared_ptr<Runtime> next_runtime = next_runtime_;
    lock.unlock();
    const bool counts = !body_.is_call();
    const std::uint64_t tokens = counts ? stream_.pushed_tokens() : 0;
    const std::uint64_t full = counts ? stream_.times_full() : 0;
    if (next_runtime != nullptr) {
        next_runtime->dismiss(this, tokens, full);
    }
    runtime->dismiss(this, tokens, full);
}

void Request::on_writable() {
    {
        const std::lock_guard lock(mutex_);
        if (phase_ == Phase::starting) {
            trial_.became_writable = true;
            return;
        }
    }
    const EngineCall call(*this);
    if (call.handle() != nullptr) {
        notify_writable(engine(), call.handle());
    }
}

void Request::notify_writable(Engine &engine, dynamo_stream_t *engine_handle) {
    try {
        engine.notify_writable(engine_handle);
    } catch (const Failure &failure) {
        end(failure.error());  // it may never push again
    }
}

}  // namespace dynamo
