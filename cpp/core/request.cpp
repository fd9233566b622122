// SPDX-License-Identifier: Apache-2.0
#include "core/request.hpp"

#include <chrono>
#include <random>

#include "core/dispatcher.hpp"
#include "core/runtime.hpp"

namespace dynamo {
namespace {

// A random start keeps the ids of processes apart; the counter keeps those of one process apart.
std::string next_id() {
    static const std::uint64_t start = [] {
        std::random_device device;
        return std::uint64_t{device()} << 32 | device();
    }();
    static std::atomic<std::uint64_t> counter{0};
    const std::uint64_t number = start + counter.fetch_add(1, std::memory_order_relaxed);
    std::string id = "req-";
    for (int shift = 60; shift >= 0; shift -= 4) {
        id += "0123456789abcdef"[(number >> shift) & 15];
    }
    return id;
}

// A request must end also when there is no memory for the message.
template <class Message>
Error error_of(std::int32_t status, Message message) noexcept {
    Error error;
    error.status = status;
    try {
        error.message = message();
    } catch (const std::exception &) {
        error.message.clear();
    }
    return error;
}

Error cancelled(const char *why) noexcept {
    return error_of(DYNAMO_ERROR_CANCELLED,
                    [&] { return std::string("the request was cancelled: ") + why; });
}

[[noreturn]] void reject_state(const char *message) {
    throw Failure(DYNAMO_ERROR_INVALID_STATE, message);
}

std::int64_t unix_seconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

}  // namespace

Request::Request(Body body) : id_(next_id()), body_(std::move(body)) {}

// ------------------------------------------------------------------------- before it is sent

void Request::set_deadlines(std::int64_t first_token_ms, std::int64_t total_ms) {
    for (const std::int64_t value : {first_token_ms, total_ms}) {
        if (value < -1 || value == 0) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                          "a deadline is a positive number of milliseconds, or -1 for none, not " +
                              std::to_string(value));
        }
    }
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::created) {
        reject_state("the request was sent already; set deadlines before");
    }
    first_token_ms_ = first_token_ms;
    total_ms_ = total_ms;
}

void Request::set_callback(dynamo_response_callback_t callback, void *user,
                           dynamo_release_callback_t release) {
    if (callback == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "the callback is NULL");
    }
    dispatcher::start();
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::created) {
        reject_state("the request was sent already; set the callback before");
    }
    if (abandoned_) {  // by another thread meanwhile, which saw no callback to release
        throw Failure(DYNAMO_ERROR_INVALID_HANDLE, "the request was destroyed");
    }
    require_no_delivery();
    callback_ = callback;
    callback_user_ = user;
    callback_release_ = release;
}

void Request::set_queue(std::shared_ptr<Queue> queue, void *user) {
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != Phase::created) {
            reject_state("the request was sent already; set the queue before");
        }
        require_no_delivery();
        queue_ = std::move(queue);
        queue_user_ = user;
    }
    stream_.tell_owner(Stream::Telling::always);  // it may be cancelled before it is sent
}

// With the lock.
void Request::require_no_delivery() const {
    if (callback_ != nullptr) {
        reject_state("the request has a callback already");
    }
    if (queue_ != nullptr) {
        reject_state("the request has a queue already");
    }
}

void Request::send(const std::shared_ptr<Runtime> &runtime) {
    try {
        send_to(runtime);
    } catch (const Failure &failure) {
        Error error = failure.error();
        error.request_id = id_;
        throw Failure(std::move(error));
    }
}

void Request::send_to(const std::shared_ptr<Runtime> &runtime) {
    Model &model = runtime->model_for(body_);
    auto head = std::make_unique<ResponseHead>();
    head->id = id_.substr(4);
    head->model = body_.model.empty() ? model.name() : body_.model;
    head->kind = body_.kind;
    head->stream = body_.stream;
    head->wants_timing = body_.wants_timing;
    head->created = unix_seconds();
    bool was_cancelled;
    bool must_wait = false;
    {
        const std::lock_guard lock(mutex_);
        if (phase_ != Phase::created) {
            reject_state("the request was sent before; a request is one run, create another");
        }
        // Asked under the lock: who ends the request after this finds the runtime, and counts
        // there.
        was_cancelled = stream_.is_end_claimed();
        if (!was_cancelled) {
            try {
                must_wait = !runtime->admit(shared_from_this(), model, body_);
            } catch (const Failure &failure) {
                model.metrics().count_refusal(failure.error().status);
                throw;
            }
            phase_ = Phase::starting;
            runtime_ = runtime;
            model_ = &model;
            dismissal_is_due_ = false;
            engine_calls_ = 1;
        }
    }
    if (was_cancelled) {
        throw Failure(full_error());
    }
    stream_.prepare(runtime->stream_limits(), HeldHead(head.release()), body_.n, model.metrics());
    try {
        arm_deadlines(runtime->limits());
        if (must_wait) {
            wait_in_queue(*runtime);
        } else {
            hand_to_engine();
        }
    } catch (...) {
        disarm_deadlines();
        stream_.reset();
        std::unique_lock lock(mutex_);
        phase_ = Phase::created;
        is_accepted_ = false;
        runtime_.reset();
        model_ = nullptr;
        engine_calls_ = 0;
        // Destroyed while it was being sent: abandon() left the release to this thread.
        const bool release_callback = callback_ != nullptr && abandoned_;
        lock.unlock();
        runtime->dismiss(this, 0, 0);
        if (release_callback) {
            dispatcher::post(shared_from_this());
        }
        try {
            throw;
        } catch (const Failure &failure) {
            model.metrics().count_refusal(failure.error().status);
            throw;
        }
    }
    runtime->count_sent();
    if (callback_ != nullptr) {
        stream_.tell_owner(Stream::Telling::always);
    }
}

// In the phase "starting".
void Request::hand_to_engine() {
    Engine &engine = model().engine();
    dynamo_stream_t *const engine_handle =
        open_handle<EngineStream>(std::shared_ptr<EngineStream>(shared_from_this()));
    {
        const std::lock_guard lock(mutex_);
        engine_handle_ = engine_handle;
    }
    stream_.hand_over();
    try {
        engine.generate(engine_handle, id_, body_);
    } catch (...) {
        close_handle<EngineStream>(engine_handle);
        const std::lock_guard lock(mutex_);
        engine_handle_ = nullptr;
        throw;
    }
    std::string().swap(body_.text);  // the engine has what it needs of it
    bool engine_has_it;
    bool has_space;
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::sent;
        is_accepted_ = true;
        engine_has_it = engine_handle_ != nullptr;
        has_space = std::exchange(space_while_starting_, false);
    }
    // Whoever ended the request, or made room in its stream, while generate() was running left it to
    // this thread to say so.
    if (engine_has_it && stream_.is_end_claimed()) {
        engine.cancel(engine_handle);
    } else if (engine_has_it && has_space) {
        engine.space(engine_handle);
    }
    end_engine_call();
}

void Request::wait_in_queue(Runtime &runtime) {
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::queued;
        is_accepted_ = true;
        engine_calls_ = 0;
    }
    if (stream_.is_end_claimed()) {
        withdraw();
    } else {
        runtime.enqueue(this);
    }
}

// Out of the queue, if it is there still.
void Request::withdraw() {
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
            return;  // it was withdrawn
        }
        phase_ = Phase::starting;
        engine_calls_ = 1;
    }
    Error error;
    error.status = DYNAMO_ERROR_OUT_OF_MEMORY;
    try {
        hand_to_engine();
        return;
    } catch (const Failure &failure) {
        try {
            error = failure.error();
        } catch (const std::bad_alloc &) {
            error = Error();
            error.status = failure.error().status;
        }
    } catch (const std::exception &) {
        error.message.clear();
    }
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::sent;
        engine_calls_ = 0;
    }
    const std::shared_ptr<Runtime> runtime = this->runtime();
    const Runtime::Publication publication(runtime);
    if (stream_.claim_end()) {
        before_end(error.status);
        stream_.publish_error(error);
    }
    runtime->dismiss(this, 0, 0);
}

// ------------------------------------------------------------------------- the caller's side

std::int32_t Request::take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out) {
    const std::shared_ptr<Runtime> runtime = require_receivable();
    const std::int32_t status = stream_.take(until, out);
    if (status < 0) {
        throw Failure(full_error());
    }
    if (status == DYNAMO_OK && runtime != nullptr) {
        runtime->count_received(out->tokens);
    }
    return status;
}

int Request::fd() {
    require_receivable();
    return stream_.fd();
}

void Request::notify(dynamo_ready_callback_t callback, void *user) {
    if (callback == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "the callback is NULL");
    }
    require_receivable();
    dispatcher::start();
    {
        const std::lock_guard lock(mutex_);
        if (ready_callback_ != nullptr) {
            reject_state("the call that was asked for earlier has not come yet");
        }
        ready_callback_ = callback;
        ready_user_ = user;
    }
    stream_.tell_owner(Stream::Telling::once);
}

std::shared_ptr<Runtime> Request::require_receivable() const {
    const std::lock_guard lock(mutex_);
    // A request that was cancelled before it was sent has its terminal event all the same.
    if (!is_accepted_ && stream_.status() == DYNAMO_PENDING) {
        reject_state("the request was not sent; call dynamo_request_send() first");
    }
    if (callback_ != nullptr) {
        reject_state("the request delivers to a callback");
    }
    if (queue_ != nullptr) {
        reject_state("the request delivers to a queue; call dynamo_queue_next()");
    }
    return runtime_;
}

void Request::cancel(const char *why) {
    end(cancelled(why));
}

void Request::abandon() {
    abandoned_ = true;
    bool release_callback;
    {
        const std::lock_guard lock(mutex_);
        release_callback = callback_ != nullptr && phase_ == Phase::created;
    }
    cancel("it was destroyed");
    if (release_callback) {
        dispatcher::post(shared_from_this());
    }
}

const std::string *Request::error() {
    if (stream_.status() >= 0) {
        return nullptr;
    }
    const Error error = full_error();
    const std::lock_guard lock(mutex_);
    if (error_texts_ == nullptr) {
        error_texts_ = std::make_unique<const ErrorTexts>(ErrorTexts{error.message, error.json()});
    }
    return &error_texts_->message;
}

const std::string *Request::error_json() {
    return error() == nullptr ? nullptr : &error_texts_->json;
}

Error Request::full_error() const {
    // Where the end was claimed but not published yet, it can only be a cancel before sending.
    Error error = stream_.error().value_or(cancelled("its caller asked for it"));
    if (error.message.empty()) {  // there was no memory for it
        error.message = error.status == DYNAMO_ERROR_OUT_OF_MEMORY ? "out of memory"
                                                                   : status_name(error.status);
    }
    error.request_id = id_;
    const std::lock_guard lock(mutex_);
    if (runtime_ != nullptr) {
        error.engine = model_->engine().name();
    }
    return error;
}

// ------------------------------------------------------------------------- the engine's side

// This request's engine claimed the end, since the stream was full.
Stream::Pushed Request::overflow() {
    before_end(DYNAMO_ERROR_SLOW_CONSUMER);
    stream_.publish_error(
        error_of(DYNAMO_ERROR_SLOW_CONSUMER, [&] { return stream_.overflow_error().message; }));
    return Stream::Pushed::closed;
}

void Request::finish(const char *reason, const std::optional<Usage> &usage) {
    const Runtime::Publication publication(runtime());
    const bool is_first = stream_.claim_end();
    if (is_first) {
        before_end(DYNAMO_END);
    }
    let_go_of_engine();
    if (is_first) {
        stream_.publish_finish(reason, usage);
    }
}

void Request::fail(const Error &error) {
    const Runtime::Publication publication(runtime());
    const bool is_first = stream_.claim_end();
    if (is_first) {
        before_end(error.status);
    }
    let_go_of_engine();
    if (is_first) {
        stream_.publish_error(error);
    }
}

// Ends the caller's life of the request and tells the engine.
void Request::end(const Error &error) {
    if (!stream_.claim_end()) {
        return;
    }
    before_end(error.status);
    stream_.publish_error(error);
    if (dynamo_stream_t *const engine_handle = begin_engine_call()) {
        model().engine().cancel(engine_handle);
        end_engine_call();
    }
    withdraw();
}

// Between the claim and the publication of the end.
void Request::before_end(std::int32_t status) {
    disarm_deadlines();
    std::unique_lock lock(mutex_);
    const std::shared_ptr<Runtime> runtime = runtime_;
    Model *const model = model_;
    lock.unlock();
    if (runtime != nullptr) {
        runtime->count_end(status);
        model->metrics().count_end(status, stream_.timing());
    }
}

std::shared_ptr<Runtime> Request::runtime() const {
    const std::lock_guard lock(mutex_);
    return runtime_;
}

Model &Request::model() const {
    const std::lock_guard lock(mutex_);
    return *model_;
}

dynamo_stream_t *Request::begin_engine_call() {
    const std::lock_guard lock(mutex_);
    if (engine_handle_ == nullptr) {
        return nullptr;
    }
    if (phase_ == Phase::starting) {
        return nullptr;  // hand_to_engine() looks after it
    }
    ++engine_calls_;
    return engine_handle_;
}

void Request::end_engine_call() {
    std::unique_lock lock(mutex_);
    --engine_calls_;
    dismiss_if_due(lock);
}

void Request::let_go_of_engine() {
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
    lock.unlock();
    runtime->dismiss(this, stream_.pushed_tokens(), stream_.times_full());
}

// ------------------------------------------------------------------------- events of the stream

void Request::on_ready() {
    if (queue_ != nullptr) {
        queue_->post(shared_from_this());
    } else {
        dispatcher::post(shared_from_this());
    }
}

void Request::on_urgent() {
    if (queue_ != nullptr) {
        queue_->hurry();
    }
}

void Request::on_space() {
    {
        const std::lock_guard lock(mutex_);
        if (phase_ == Phase::starting) {
            space_while_starting_ = true;  // hand_to_engine() looks after it
            return;
        }
    }
    if (dynamo_stream_t *const engine_handle = begin_engine_call()) {
        model().engine().space(engine_handle);
        end_engine_call();
    }
}

bool Request::deliver() {
    if (callback_ == nullptr) {
        std::unique_lock lock(mutex_);
        const auto callback = std::exchange(ready_callback_, nullptr);
        void *const user = ready_user_;
        lock.unlock();
        if (callback != nullptr) {
            callback(user);
        }
        return false;
    }
    if (callback_done_) {
        return false;
    }
    if (!abandoned_) {
        handles::Reserved place;  // what throws comes before anything is taken
        std::shared_ptr<Response> response;
        bool has_more = false;
        const std::int32_t status = stream_.take_next(response, has_more);
        if (status == DYNAMO_PENDING) {
            return false;
        }
        if (status == DYNAMO_OK) {
            // Asked again: this may be the very end that abandon() brought about.
            if (!abandoned_) {
                runtime()->count_received(response->tokens);
                callback_(callback_user_, handle_, open_handle(place, std::move(response)), status);
            }
            return has_more;
        }
        if (!abandoned_ && !std::exchange(end_was_called_, true)) {
            callback_(callback_user_, handle_, nullptr, status);
        }
    }
    callback_done_ = true;
    if (callback_release_ != nullptr) {
        callback_release_(callback_user_);
    }
    return false;
}

bool Request::take_event(Queue::Event &event, bool &has_more) {
    has_more = false;
    if (abandoned_) {
        return false;
    }
    event.status = stream_.take_next(event.response, has_more);
    if (event.status == DYNAMO_PENDING) {
        return false;
    }
    if (event.status == DYNAMO_OK) {
        runtime()->count_received(event.response->tokens);
    }
    event.request = handle_;
    event.user = queue_user_;
    return true;
}

// ------------------------------------------------------------------------- deadlines

void Request::arm_deadlines(const Limits &limits) {
    const auto arm = [this](std::int64_t milliseconds, const char *which, bool first_token_only) {
        return timer::at(*after_ms(milliseconds), [weak = weak_from_this(), milliseconds, which,
                                                   first_token_only] {
            const auto request = weak.lock();
            if (request == nullptr || (first_token_only && request->stream_.has_pushed())) {
                return;
            }
            request->end(error_of(DYNAMO_ERROR_DEADLINE_EXCEEDED, [&] {
                return std::string("the deadline ") + which +
                       " passed: " + std::to_string(milliseconds) +
                       " ms after the request was sent";
            }));
        });
    };
    const std::lock_guard lock(mutex_);
    if (stream_.is_end_claimed()) {
        return;  // before_end() may have disarmed them already
    }
    const std::int64_t first_token_ms =
        first_token_ms_ > 0 ? first_token_ms_ : limits.first_token_ms;
    const std::int64_t total_ms = total_ms_ > 0 ? total_ms_ : limits.total_ms;
    if (first_token_ms > 0) {
        first_token_timer_ = arm(first_token_ms, "to the first token", true);
    }
    if (total_ms > 0) {
        total_timer_ = arm(total_ms, "to the end", false);
        total_deadline_ = after_ms(total_ms);
    }
}

std::int64_t Request::remaining_ms() const {
    const std::lock_guard lock(mutex_);
    if (!total_deadline_) {
        return -1;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(*total_deadline_ - Clock::now());
    return std::max<std::int64_t>(0, left.count());
}

void Request::disarm_deadlines() {
    timer::Id timers[2];
    {
        const std::lock_guard lock(mutex_);
        timers[0] = std::exchange(first_token_timer_, 0);
        timers[1] = std::exchange(total_timer_, 0);
    }
    for (const timer::Id id : timers) {
        if (id != 0) {
            timer::cancel(id);
        }
    }
}

}  // namespace dynamo
