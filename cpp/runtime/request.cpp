// SPDX-License-Identifier: Apache-2.0
// The caller's side of a request, and ending a request.
#include "runtime/request.hpp"

#include <random>

#include "runtime/runtime.hpp"

namespace dynamo {
namespace {

// The random start separates the ids of processes, the counter those within a process.
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

Error cancelled(const char *why) noexcept {
    return make_error(DYNAMO_ERROR_CANCELLED,
                      [&] { return std::string("the request was cancelled: ") + why; });
}

[[noreturn]] void reject_state(const char *message) {
    throw Failure(DYNAMO_ERROR_INVALID_STATE, message);
}

}  // namespace

Request::Request(Body body) : id_(next_id()), body_(std::move(body)) {}

void Request::set_deadlines(std::int64_t first_token_ms, std::int64_t total_ms) {
    const Deadlines deadlines(first_token_ms, total_ms);
    const std::lock_guard lock(mutex_);
    require_unsent("deadlines");
    deadlines_ = deadlines;
}

std::int32_t Request::take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out) {
    std::shared_ptr<Runtime> runtime;
    bool has_responses;
    {
        const std::lock_guard lock(mutex_);
        require_receivable();
        runtime = runtime_;
        has_responses = is_accepted_;  // otherwise it was cancelled before it was sent
    }
    const std::int32_t status = has_responses ? stream_.take(until, out) : stream_.status();
    if (status < 0) {
        throw Failure(failure());
    }
    if (status == DYNAMO_OK && runtime != nullptr && !body_.is_call()) {
        runtime->count_received(out->tokens);
    }
    return status;
}

int Request::fd() {
    {
        const std::lock_guard lock(mutex_);
        require_receivable();
    }
    return stream_.fd();
}

void Request::notify(dynamo_ready_callback_t callback, void *user) {
    if (callback == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "the callback is NULL");
    }
    dispatcher::start();
    {
        const std::lock_guard lock(mutex_);
        require_receivable();
        if (ready_callback_ != nullptr) {
            reject_state("the callback of an earlier dynamo_request_notify() is still pending");
        }
        ready_callback_ = callback;
        ready_user_ = user;
    }
    stream_.notify_owner(Stream::Notify::once);
}

void Request::require_unsent(const char *setting) const {
    if (phase_ != Phase::created) {
        throw Failure(
            DYNAMO_ERROR_INVALID_STATE,
            std::string("the request was already sent; set ") + setting + " before sending it");
    }
}

void Request::require_receivable() const {
    // A request that was cancelled before it was sent still has a terminal event to receive.
    if (!is_accepted_ && stream_.status() == DYNAMO_PENDING) {
        if (send_failure_ != nullptr) {
            throw Failure(*send_failure_)
                .with_context(
                    "the request was not sent, because dynamo_request_send() failed earlier: ");
        }
        reject_state("the request was not sent; call dynamo_request_send() first");
    }
    if (callback_ != nullptr) {
        reject_state("the request delivers to a callback; it cannot be received from");
    }
    if (queue_ != nullptr) {
        reject_state("the request delivers to a queue; call dynamo_queue_next()");
    }
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

void Request::expire(Deadlines::Kind kind, std::int64_t milliseconds) {
    const bool to_first_token = kind == Deadlines::Kind::first_token;
    if (to_first_token && stream_.has_pushed()) {
        return;
    }
    std::string detail;
    Error error = make_error(DYNAMO_ERROR_DEADLINE_EXCEEDED, [&] {
        detail = "{\"timeout_ms\": " + std::to_string(milliseconds) + "}";
        if (body_.is_call()) {
            return "the call \"" + body_.call + "\" did not end within its timeout of " +
                   std::to_string(milliseconds) + " ms";
        }
        return std::string("the deadline ") +
               (to_first_token ? "to the first token" : "to the end") +
               " passed: " + std::to_string(milliseconds) + " ms after the request was sent";
    });
    error.detail = std::move(detail);
    end(error);
}

const std::string *Request::error() {
    if (stream_.status() >= 0) {
        return nullptr;
    }
    const Error error = failure();
    const std::lock_guard lock(mutex_);
    if (error_texts_ == nullptr) {
        error_texts_ = std::make_unique<const ErrorTexts>(ErrorTexts{error.message, error.json()});
    }
    return &error_texts_->message;
}

const std::string *Request::error_json() {
    return error() == nullptr ? nullptr : &error_texts_->json;
}

Error Request::failure() const {
    // An end that is claimed but not published yet can only be a cancel before sending.
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

// Ends the caller's life of the request, and cancels it in the engine.
void Request::end(const Error &error) {
    if (!stream_.claim_end()) {
        return;
    }
    on_end_claimed(error.status);
    stream_.publish_error(error);
    {
        const EngineCall call(*this);
        if (call.handle() != nullptr) {
            engine().cancel(call.handle());
        }
    }
    leave_queue();
    std::unique_lock lock(mutex_);
    // A request that is being sent notifies its owner in send_to() or roll_back().
    const bool notifies_owner = callback_ != nullptr && phase_ == Phase::created;
    lock.unlock();
    if (notifies_owner) {
        stream_.notify_owner(Stream::Notify::always);
    }
}

// Called between the claim and the publication of the end, so that a thread that sees the end finds it counted.
void Request::on_end_claimed(std::int32_t status) {
    disarm_deadlines();
    std::unique_lock lock(mutex_);
    if (phase_ == Phase::starting && !is_accepted_) {
        trial_.caller_status = status;
        return;
    }
    const std::shared_ptr<Runtime> runtime = runtime_;
    Model *const model = model_;
    lock.unlock();
    if (runtime != nullptr) {
        count_end(status, *runtime, *model);
    }
}

void Request::count_end(std::int32_t status, Runtime &runtime, Model &model) {
    if (body_.is_call()) {
        return;
    }
    runtime.count_end(status);
    model.counters().count_end(status, stream_.timing());
}

std::shared_ptr<Runtime> Request::runtime() const {
    const std::lock_guard lock(mutex_);
    return runtime_;
}

Model &Request::model() const {
    const std::lock_guard lock(mutex_);
    return *model_;
}

Engine &Request::engine() const {
    const std::lock_guard lock(mutex_);
    return next_model_ != nullptr ? next_model_->engine() : model_->engine();
}

}  // namespace dynamo
