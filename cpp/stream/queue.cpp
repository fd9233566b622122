// SPDX-License-Identifier: Apache-2.0
#include "stream/queue.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/wait_check.hpp"

namespace dynamo {
namespace {

QueueSource *closed_mark() noexcept {
    static char mark;
    return reinterpret_cast<QueueSource *>(&mark);  // never the address of a source
}

}  // namespace

void Queue::post(std::shared_ptr<QueueSource> source) noexcept {
    QueueSource *const added = source.get();
    added->self_ = std::move(source);
    QueueSource *head = posted_.load(std::memory_order_relaxed);
    do {
        if (head == closed_mark()) {
            const std::shared_ptr<QueueSource> dropped = std::move(added->self_);
            return;
        }
        added->next_ = head;
    } while (!posted_.compare_exchange_weak(head, added));
    // The descriptor works like a sleeper, see below. Only the first request of the list has to write it.
    if (head == nullptr && has_fd_.load()) {
        const std::lock_guard lock(mutex_);
        update_fd();
    }
    // A sleeper increments sleepers_ and then reads the list; this writes the list and then reads sleepers_. So at
    // least one of the two sees the other.
    if (sleepers_.load() > 0) {
        const std::lock_guard lock(mutex_);
        if (sleepers_.load(std::memory_order_relaxed) > 0) {
            sleepers_.fetch_sub(1, std::memory_order_relaxed);
            ++pending_wakeups_;
            // All, because a polling reader would swallow a single notification.
            pollers_.load(std::memory_order_relaxed) > 0 ? changed_.notify_all()
                                                         : changed_.notify_one();
        }
    }
}

void Queue::wake_pollers() noexcept {
    if (pollers_.load() > 0) {
        const std::lock_guard lock(mutex_);
        is_urgent_ = true;
        changed_.notify_all();
    }
}

int Queue::fd() {
    const std::lock_guard lock(mutex_);
    if (is_closed_) {  // by another thread meanwhile
        throw Failure(DYNAMO_ERROR_INVALID_HANDLE, "the queue was destroyed");
    }
    if (notifier_ == nullptr) {
        notifier_ = std::make_unique<platform::Notifier>("queue");
        has_fd_.store(true);
        update_fd();
    }
    return notifier_->fd();
}

void Queue::wake() noexcept {
    const std::lock_guard lock(mutex_);
    ++wakes_;
    update_fd();
    changed_.notify_all();
}

bool Queue::is_ready() const noexcept {
    const QueueSource *const head = posted_.load();
    return wakes_ > 0 || first_ != nullptr || (head != nullptr && head != closed_mark());
}

void Queue::update_fd() noexcept {
    if (notifier_ != nullptr) {
        is_ready() ? notifier_->set() : notifier_->clear();
    }
}

void Queue::set_hosted() noexcept {
    if (is_hosted_.load(std::memory_order_relaxed)) {
        return;
    }
    const std::lock_guard lock(mutex_);
    is_hosted_.store(true, std::memory_order_relaxed);
    changed_.notify_all();  // readers that must not wait for hosted engines leave
}

void Queue::close() noexcept {
    QueueSource *posted = posted_.exchange(closed_mark());
    QueueSource *collected;
    {
        const std::lock_guard lock(mutex_);
        is_closed_ = true;
        collected = std::exchange(first_, nullptr);
        last_ = nullptr;
        has_fd_.store(false);
        notifier_ = nullptr;
        changed_.notify_all();
    }
    for (QueueSource *list : {posted, collected}) {
        while (list != nullptr && list != closed_mark()) {
            QueueSource *const next = list->next_;
            const std::shared_ptr<QueueSource> dropped = std::move(list->self_);
            list = next;
        }
    }
}

bool Queue::has_requests() noexcept {
    if (first_ != nullptr) {
        return true;
    }
    QueueSource *head = posted_.load();
    do {
        if (head == nullptr || head == closed_mark()) {
            return false;
        }
    } while (!posted_.compare_exchange_weak(head, nullptr));
    last_ = head;
    last_batch_ = 0;
    while (head != nullptr) {  // reverses the list
        ++last_batch_;
        QueueSource *const next = std::exchange(head->next_, first_);
        first_ = head;
        head = next;
    }
    return true;
}

std::shared_ptr<QueueSource> Queue::pop() noexcept {
    QueueSource *const source = first_;
    first_ = source->next_;
    if (first_ == nullptr) {
        last_ = nullptr;
    }
    return std::move(source->self_);
}

void Queue::append(std::shared_ptr<QueueSource> source) noexcept {
    QueueSource *const added = source.get();
    added->next_ = nullptr;
    added->self_ = std::move(source);
    (last_ == nullptr ? first_ : last_->next_) = added;
    last_ = added;
}

// Wakes a sleeper for the requests that this reader leaves.
void Queue::wake_another() noexcept {
    if (sleepers_.load(std::memory_order_relaxed) > 0 && first_ != nullptr) {
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
        ++pending_wakeups_;
        changed_.notify_all();
    }
}

// Requires the lock, and holds it again on return. Returns false at the timeout; otherwise the caller checks again.
bool Queue::wait(std::unique_lock<std::mutex> &lock, std::optional<Clock::time_point> until) {
    Clock::time_point now = Clock::now();
    if (until && *until <= now) {
        return false;
    }
    const bool was_hosted = is_hosted_.load(std::memory_order_relaxed);
    if (was_hosted) {
        wait_check::require_allowed("dynamo_queue_next()", true);
    }
    if (poll_.interval().count() > 0) {
        const Clock::time_point end = now + poll_.interval();
        is_urgent_ = false;
        pollers_.fetch_add(1);
        changed_.wait_until(lock, until ? std::min(*until, end) : end,
                            [this] { return is_urgent_ || is_closed_ || wakes_ > 0; });
        pollers_.fetch_sub(1);
        const bool found = is_closed_ || has_requests();
        poll_.on_polled(found);
        if (found) {
            poll_.limit_to(last_batch_);
            return true;
        }
        now = Clock::now();
    }
    sleepers_.fetch_add(1);
    const auto was_woken = [&] {
        return pending_wakeups_ > 0 || is_closed_ || wakes_ > 0 ||
               is_hosted_.load(std::memory_order_relaxed) != was_hosted;
    };
    bool has_any = has_requests();
    if (!has_any && !is_closed_) {
        wait_until(changed_, lock, until, was_woken);
    }
    // The thread that woke a sleeper has already removed it from sleepers_; it may have been another sleeper.
    if (pending_wakeups_ > 0) {
        --pending_wakeups_;
    } else {
        sleepers_.fetch_sub(1);
    }
    has_any = has_any || has_requests();
    if (has_any) {
        poll_.on_woken(Clock::now() - now);
    }
    return true;
}

std::int32_t Queue::next(std::optional<Clock::time_point> until, Event &event) {
    std::unique_lock lock(mutex_);
    while (true) {
        if (is_closed_) {
            throw Failure(DYNAMO_ERROR_CLOSED, "the queue was destroyed");
        }
        if (wakes_ > 0) {
            --wakes_;
            has_requests();  // of which another reader has to be told, if this one was woken for them
            wake_another();
            update_fd();
            return DYNAMO_PENDING;
        }
        if (!has_requests()) {
            update_fd();
            if (!wait(lock, until)) {
                return DYNAMO_PENDING;
            }
            continue;
        }
        std::shared_ptr<QueueSource> source = pop();
        lock.unlock();
        bool has_more = false;
        const bool has_event = source->take_event(event, has_more);
        lock.lock();
        if (has_more && !is_closed_) {
            append(std::move(source));
        }
        if (has_event) {
            update_fd();
            wake_another();
            lock.unlock();  // before `source` is destroyed, which may be the last reference
            return DYNAMO_OK;
        }
        if (source != nullptr) {  // as above
            lock.unlock();
            source.reset();
            lock.lock();
        }
    }
}

}  // namespace dynamo
