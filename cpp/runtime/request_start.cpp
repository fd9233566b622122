// SPDX-License-Identifier: Apache-2.0
// Sending a request: admission, the queue, and the trial of an engine that may refuse.
//
// Until the engine's generate function has returned without an error, nothing that the engine does counts: the request
// may be rolled back, and sent again to another runtime.
#include "runtime/request.hpp"
#include "runtime/runtime.hpp"

namespace dynamo {

void Request::send(const std::shared_ptr<Runtime> &runtime) {
    try {
        send_to(runtime);
    } catch (const Failure &failure) {
        Error error = failure.error();
        error.request_id = id_;
        throw Failure(std::move(error));
    }
}

void Request::remember_failed_send(const Error &error) noexcept {
    try {
        auto copy = std::make_unique<const Error>(error);
        const std::lock_guard lock(mutex_);
        if (!is_accepted_) {  // otherwise it was sent twice, and the first attempt counts
            send_failure_.swap(copy);
        }
    } catch (const std::bad_alloc &) {  // then the error reads "not sent", without the reason
    }
}

ResponseHeadPtr Request::make_head(const Model &model) const {
    auto head = std::make_unique<ResponseHead>();
    if (body_.id.empty()) {
        head->id.assign(id_, 4);
    } else {
        head->id = body_.id;
    }
    head->model = body_.model.empty() ? model.name() : body_.model;
    head->kind = body_.kind;
    head->settings = body_.settings;
    head->stream = body_.stream;
    head->choices = body_.choices();
    head->include_usage = body_.include_usage;
    head->wants_timing = body_.wants_timing;
    head->created = seconds_since_1970();
    return ResponseHeadPtr(head.release());
}

void Request::send_to(const std::shared_ptr<Runtime> &runtime) {
    Model &model = runtime->model_for(body_);
    Counters &counters = body_.is_call() ? model.call_counters() : model.counters();
    const auto count_refusal = [&](auto function) {
        try {
            return function();
        } catch (const Failure &failure) {
            counters.count(failure.error().status);
            throw;
        }
    };
    count_refusal([&] {
        if (body_.is_call()) {
            model.check_call(body_.call);
        }
        model.check_keys(body_);
        model.check_kind(body_.kind);
        runtime->limits().request.check(body_.cost);
        model.check_length(body_);
    });
    ResponseHeadPtr head = make_head(model);
    std::unique_ptr<ResponseEvents> events;
    if (head->stream && head->kind == BodyKind::responses) {
        events = std::make_unique<ResponseEvents>(*head);
    }
    bool was_cancelled;
    bool is_queued = false;
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != Phase::created) {
            throw Failure(DYNAMO_ERROR_INVALID_STATE,
                          "the request was already sent; create a new request for each run");
        }
        // Checked under the lock: a thread that ends the request after this finds the runtime, and counts there.
        was_cancelled = stream_.is_end_claimed();
        if (!was_cancelled) {
            is_queued =
                count_refusal([&] { return !runtime->admit(shared_from_this(), model, body_); });
            phase_ = Phase::starting;
            runtime_ = runtime;
            model_ = &model;
            dismissal_is_due_ = false;
            engine_calls_ = 1;
        }
    }
    if (was_cancelled) {
        throw Failure(failure());
    }
    const bool is_hosted = model.engine().is_hosted();
    if (is_hosted && queue_ != nullptr) {
        queue_->set_hosted();
    }
    stream_.prepare(runtime->stream_limits(), std::move(head), std::move(events), body_.choices(),
                    counters, is_hosted);
    count_refusal([&] {
        try {
            arm_deadlines(runtime->limits());
            if (is_queued) {
                enter_queue(*runtime);
            } else {
                submit_to_engine();
            }
        } catch (...) {
            roll_back(*runtime);
            throw;
        }
    });
    if (!body_.is_call()) {
        runtime->count_sent();
    }
    if (callback_ != nullptr || queue_ != nullptr) {
        stream_.notify_owner(Stream::Notify::always);
    }
}

// Restores the state before send(), except for an end that the caller caused. A thread of the engine that refused may
// still use the stream: its handle is stale.
void Request::roll_back(Runtime &runtime) {
    disarm_deadlines();
    bool reopens;
    {
        const std::lock_guard lock(mutex_);
        if (phase_ == Phase::sent) {
            return;  // it was accepted; the engine ended this thread afterwards
        }
        // The deadline began with send(), so it does not count either.
        reopens = trial_.caller_status == DYNAMO_ERROR_DEADLINE_EXCEEDED;
    }
    stream_.reset(reopens);
    bool release_callback;
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::created;
        is_accepted_ = false;
        trial_ = {};
        deadlines_.reset();
        runtime_.reset();
        model_ = nullptr;
        engine_calls_ = 0;
        // Destroyed while it was being sent: abandon() left the release to this thread.
        release_callback = callback_ != nullptr && abandoned_;
    }
    runtime.dismiss(this, 0, 0);
    if (release_callback) {
        dispatcher::post(shared_from_this());
    } else if (queue_ != nullptr) {
        stream_.notify_owner(Stream::Notify::always);  // as in set_queue()
    }
}

// Requires Phase::starting.
void Request::submit_to_engine() {
    Engine &engine = model().engine();
    dynamo_stream_t *const engine_handle =
        open_handle<EngineStream>(std::shared_ptr<EngineStream>(shared_from_this()));
    bool on_trial;
    {
        const std::lock_guard lock(mutex_);
        engine_handle_ = engine_handle;
        on_trial = !is_accepted_;
    }
    stream_.attach(engine_handle, on_trial);
    try {
        engine.generate(engine_handle, id_, body_);
    } catch (...) {
        close_handle<EngineStream>(engine_handle);
        {
            const std::lock_guard lock(mutex_);
            engine_handle_ = nullptr;
            trial_.engine_end.reset();
        }
        stream_.detach(engine_handle);
        throw;
    }
    std::string().swap(body_.text);  // the engine has what it needs of it
    accept(engine, engine_handle);
}

// Called when generate() has returned without an error: what the engine did on trial, and does later, counts.
void Request::accept(Engine &engine, dynamo_stream_t *engine_handle) {
    const EngineCall call(*this, EngineCall::already_counted);
    std::unique_lock lock(mutex_);
    phase_ = Phase::sent;
    is_accepted_ = true;
    const bool engine_holds_stream = engine_handle_ != nullptr;
    const Trial trial = std::exchange(trial_, Trial());
    const std::shared_ptr<Runtime> runtime = runtime_;
    Model *const model = model_;
    lock.unlock();
    stream_.accept();
    if (trial.caller_status) {
        count_end(*trial.caller_status, *runtime, *model);
    }
    if (trial.engine_end) {
        end_from_engine(runtime, *trial.engine_end, !engine_holds_stream);
    }
    // A thread that ended the request, or made the stream writable, while generate() was running left it to this thread
    // to notify the engine.
    if (engine_holds_stream && stream_.is_end_claimed()) {
        engine.cancel(engine_handle);
    } else if (engine_holds_stream && trial.became_writable) {
        notify_writable(engine, engine_handle);
    }
}

void Request::enter_queue(Runtime &runtime) {
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::queued;
        is_accepted_ = true;
        engine_calls_ = 0;
    }
    if (stream_.is_end_claimed()) {
        leave_queue();
    } else {
        runtime.enqueue(this);
    }
}

// Does nothing if the request is not queued, or not any more.
void Request::leave_queue() {
    std::unique_lock lock(mutex_);
    if (phase_ != Phase::queued) {
        return;
    }
    phase_ = Phase::sent;
    const std::shared_ptr<Runtime> runtime = runtime_;
    lock.unlock();
    runtime->dismiss(this, 0, 0);
}

void Request::start() {
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != Phase::queued) {
            return;  // it left the queue
        }
        phase_ = Phase::starting;
        engine_calls_ = 1;
    }
    Error error = make_error(DYNAMO_ERROR_ENGINE_FAILED, [] {
        return std::string("the engine's generate function ended the thread that called it");
    });
    // Runs also when the engine ends this thread.
    struct FailureGuard {
        Request &request;
        Error &error;
        bool is_needed = true;
        ~FailureGuard() {
            if (is_needed) {
                request.fail_start(error);
            }
        }
    } guard{*this, error};
    try {
        submit_to_engine();
        guard.is_needed = false;
    } catch (const Failure &failure) {
        try {
            error = failure.error();
        } catch (const std::bad_alloc &) {
            error = {.status = failure.error().status};
        }
    } catch (const std::exception &) {
        error = {.status = DYNAMO_ERROR_OUT_OF_MEMORY};
    }
}

void Request::fail_start(const Error &error) {
    std::shared_ptr<Runtime> runtime;
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != Phase::starting) {
            return;  // it was accepted
        }
        phase_ = Phase::sent;
        engine_calls_ = 0;
        runtime = runtime_;
    }
    const Runtime::Publication publication(runtime);
    if (stream_.claim_end()) {
        on_end_claimed(error.status);
        stream_.publish_error(error);
    }
    runtime->dismiss(this, 0, 0);
}

void Request::arm_deadlines(const Limits &limits) {
    const std::lock_guard lock(mutex_);
    if (!stream_.is_end_claimed()) {  // otherwise on_end_claimed() may have disarmed them already
        deadlines_.arm(body_.is_call() ? Limits() : limits, *this);
    }
}

void Request::disarm_deadlines() {
    const std::lock_guard lock(mutex_);
    deadlines_.disarm();
}

}  // namespace dynamo
