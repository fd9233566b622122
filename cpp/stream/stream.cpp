// SPDX-License-Identifier: Apache-2.0
// The life of a stream: preparation, the engine that may push, and its end.
#include "stream/stream.hpp"

#include <algorithm>
#include <utility>

namespace dynamo {

std::optional<Clock::time_point> after_ms(std::int64_t milliseconds) {
    if (milliseconds < 0) {
        return std::nullopt;
    }
    // A hundred years are as good as no limit, and do not overflow the clock.
    constexpr std::int64_t longest = std::int64_t{100} * 365 * 24 * 3600 * 1000;
    return Clock::now() + std::chrono::milliseconds(std::min(milliseconds, longest));
}

void Stream::prepare(const StreamLimits &limits, ResponseHeadPtr head,
                     std::unique_ptr<ResponseEvents> events, std::uint32_t choices,
                     Counters &counters, bool is_hosted) noexcept {
    const std::lock_guard lock(mutex_);
    limits_ = limits;
    head_ = std::move(head);
    is_streaming_ = head_->stream;
    choice_count_ = choices;
    notify_ = Notify::never;  // until the engine has accepted the request
    is_hosted_ = is_hosted;
    events_ = std::move(events);
    meter_.on_sent(counters);
}

void Stream::attach(const dynamo_stream_t *engine, bool on_trial) {
    const std::lock_guard lock(mutex_);
    engine_ = engine;
    meter_.on_attached(on_trial);
}

void Stream::accept() {
    const std::lock_guard lock(mutex_);
    meter_.on_accepted();
}

void Stream::detach(const dynamo_stream_t *engine) {
    const std::lock_guard lock(mutex_);
    if (engine_ == engine) {
        engine_ = nullptr;
    }
    wake_writers();
}

void Stream::reset(bool reopens) {
    const std::lock_guard lock(mutex_);
    if (reopens) {
        end_claimed_ = end_published_ = false;
        end_status_ = DYNAMO_END;
        error_ = nullptr;
    }
    first_choice_ = {};
    more_choices_.clear();
    tool_calls_.clear();
    finished_choices_ = 0;
    counted_ = nullptr;
    responses_.clear();
    queued_tokens_ = 0;
    was_full_ = false;
    events_ = nullptr;
    engine_ = nullptr;
    wake_writers();
    meter_.reset(reopens);
}

bool Stream::claim_end() {
    const std::lock_guard lock(mutex_);
    wake_writers();
    if (!end_claimed_) {
        meter_.on_ended();
    }
    return !std::exchange(end_claimed_, true);
}

void Stream::publish(std::unique_lock<std::mutex> &lock) {
    first_choice_.stage = nullptr;
    for (Choice &choice : more_choices_) {
        choice.stage = nullptr;
    }
    end_published_ = true;
    notify(lock);
}

void Stream::publish_finish(const char *reason, const std::optional<Usage> &usage) {
    std::unique_lock lock(mutex_);
    try {
        append_finish(reason, usage);
    } catch (const Failure &failure) {  // of the stage of a choice
        fail({.status = DYNAMO_ERROR_ENGINE_FAILED,
              .message = failure.error().message,
              .layer = "engine"});
    } catch (const std::exception &) {
        fail({.status = DYNAMO_ERROR_OUT_OF_MEMORY});
    }
    publish(lock);
}

// The stream must end, even without memory for the error.
void Stream::fail(const Error &error) noexcept {
    drop_partial_answer();
    end_status_ = error.status;
    try {
        error_ = std::make_unique<const Error>(error);
    } catch (const std::exception &) {
        error_ = nullptr;
    }
}

void Stream::publish_error(const Error &error) {
    std::unique_lock lock(mutex_);
    fail(error);
    publish(lock);
}

void Stream::wake_writers() noexcept {
    if (writers_waiting_ > 0) {
        conditions_->writable.notify_all();
    }
}

// Part of an answer that was requested as a whole would look like all of it.
void Stream::drop_partial_answer() noexcept {
    if (!is_streaming_) {
        responses_.clear();
        queued_tokens_ = 0;
    }
}

Stream::Conditions &Stream::conditions() {
    if (conditions_ == nullptr) {
        conditions_ = std::make_unique<Conditions>();
    }
    return *conditions_;
}

bool Stream::is_end_claimed() const {
    const std::lock_guard lock(mutex_);
    return end_claimed_;
}

bool Stream::has_pushed() const {
    const std::lock_guard lock(mutex_);
    return first_choice_.has_started || !more_choices_.empty();
}

Timing Stream::timing() const {
    const std::lock_guard lock(mutex_);
    return meter_.timing();
}

Usage Stream::usage() const {
    const std::lock_guard lock(mutex_);
    return meter_.usage();
}

std::optional<Error> Stream::error() const {
    const std::lock_guard lock(mutex_);
    if (end_status_ >= 0) {
        return std::nullopt;
    }
    return error_ != nullptr ? *error_ : Error{.status = end_status_};
}

std::int32_t Stream::status() const {
    const std::lock_guard lock(mutex_);
    return end_published_ ? end_status_ : static_cast<std::int32_t>(DYNAMO_PENDING);
}

std::uint64_t Stream::pushed_tokens() const {
    const std::lock_guard lock(mutex_);
    return meter_.pushed_tokens();
}

std::uint64_t Stream::times_full() const {
    const std::lock_guard lock(mutex_);
    return meter_.times_full();
}

}  // namespace dynamo
