// SPDX-License-Identifier: Apache-2.0
// The caller's side of a stream: taking responses, and waiting for them.
#include <nlohmann/json.hpp>

#include "base/wait_check.hpp"
#include "stream/stream.hpp"

namespace dynamo {

// Requires the lock, and holds it again on return.
bool Stream::wait_until_readable(std::unique_lock<std::mutex> &lock,
                                 std::optional<Clock::time_point> until) {
    Clock::time_point now = Clock::now();
    if (until && *until <= now) {
        return false;
    }
    if (is_hosted_) {
        wait_check::require_allowed("dynamo_request_recv()", true);
    }
    std::condition_variable &readable = conditions().readable;
    if (poll_.interval().count() > 0) {
        const Clock::time_point end = now + poll_.interval();
        ++readers_polling_;
        readable.wait_until(lock, until ? std::min(*until, end) : end,
                            [this] { return is_readable() && is_urgent(); });
        --readers_polling_;
        poll_.on_polled(is_readable());
        if (is_readable()) {
            return true;
        }
        now = Clock::now();
    }
    ++readers_waiting_;
    const bool found = wait_until(readable, lock, until, [this] { return is_readable(); });
    --readers_waiting_;
    if (found) {
        poll_.on_woken(Clock::now() - now);
    }
    return found;
}

// Wakes waiting writers. Returns whether an engine that found the stream full must be notified: only once half of it
// is free again, so that engine and reader do not alternate token by token.
bool Stream::update_writable() noexcept {
    if (writers_waiting_ > 0 && !is_full()) {
        conditions_->writable.notify_all();
    }
    if (was_full_ && (queued_tokens_ <= limits_.capacity / 2 || !is_readable())) {
        was_full_ = false;
        return !end_claimed_;
    }
    return false;
}

// Requires the lock, and a response. Events are numbered in the order in which responses are taken.
void Stream::add_events() {
    Response &first = *responses_.first();
    first.events =
        std::make_unique<json::OrderedJson>();  // may throw, so before the events are made
    *first.events = events_->of(first);
}

std::int32_t Stream::take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out) {
    std::unique_lock lock(mutex_);
    if (!is_readable() && !wait_until_readable(lock, until)) {
        return DYNAMO_PENDING;
    }
    if (responses_.is_empty()) {
        return end_status_;
    }
    if (events_ != nullptr) {
        add_events();
    }
    out = responses_.pop();
    queued_tokens_ -= out->tokens;
    if (notifier_ != nullptr && !is_readable()) {
        notifier_->clear();
    }
    if (readers_waiting_ > 0 && is_readable()) {
        conditions_->readable.notify_all();
    }
    const bool becomes_writable = update_writable();
    lock.unlock();
    if (becomes_writable) {
        owner_.on_writable();
    }
    return DYNAMO_OK;
}

std::int32_t Stream::take_next(std::shared_ptr<Response> &out, bool &has_more) {
    std::unique_lock lock(mutex_);
    owner_urged_ = false;
    if (!is_readable()) {
        owner_notified_ = has_more = false;
        return DYNAMO_PENDING;
    }
    if (responses_.is_empty()) {
        has_more = false;  // owner_notified_ stays set: after the end there is nothing to notify of
        return end_status_;
    }
    if (events_ != nullptr) {
        add_events();
    }
    out = responses_.pop();
    queued_tokens_ -= out->tokens;
    owner_notified_ = has_more = is_readable();
    const bool becomes_writable = update_writable();
    lock.unlock();
    if (becomes_writable) {
        owner_.on_writable();
    }
    return DYNAMO_OK;
}

int Stream::fd() {
    const std::lock_guard lock(mutex_);
    if (notifier_ == nullptr) {
        notifier_ = std::make_unique<platform::Notifier>("stream");
        if (is_readable()) {
            notifier_->set();
        }
    }
    return notifier_->fd();
}

void Stream::notify_owner(Notify mode) {
    std::unique_lock lock(mutex_);
    notify_ = mode;
    notify(lock);
}

}  // namespace dynamo
