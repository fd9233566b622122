// SPDX-License-Identifier: Apache-2.0
#include "core/queue.hpp"

#include <algorithm>
#include <utility>

#include "core/request.hpp"

namespace dynamo {
namespace {

Request *closed_mark() noexcept {
    static char mark;
    return reinterpret_cast<Request *>(&mark);  // an address that no request has
}

}  // namespace

void Queue::post(std::shared_ptr<Request> request) noexcept {
    Request *const added = request.get();
    added->in_queue.self = std::move(request);
    Request *head = posted_.load(std::memory_order_relaxed);
    do {
        if (head == closed_mark()) {
            const std::shared_ptr<Request> dropped = std::move(added->in_queue.self);
            return;
        }
        added->in_queue.next = head;
    } while (!posted_.compare_exchange_weak(head, added));
    // The sleeper counts itself first and looks at the list then; this is the other way round. So at
    // least one of both sees the other.
    if (sleepers_.load() > 0) {
        const std::lock_guard lock(mutex_);
        if (sleepers_.load(std::memory_order_relaxed) > 0) {
            sleepers_.fetch_sub(1, std::memory_order_relaxed);
            ++wakes_;
            // All: one that naps would swallow it.
            nappers_.load(std::memory_order_relaxed) > 0 ? changed_.notify_all()
                                                         : changed_.notify_one();
        }
    }
}

void Queue::hurry() noexcept {
    if (nappers_.load() > 0) {
        const std::lock_guard lock(mutex_);
        is_urgent_ = true;
        changed_.notify_all();
    }
}

void Queue::close() noexcept {
    Request *posted = posted_.exchange(closed_mark());
    Request *taken;
    {
        const std::lock_guard lock(mutex_);
        is_closed_ = true;
        taken = std::exchange(first_, nullptr);
        last_ = nullptr;
        changed_.notify_all();
    }
    for (Request *list : {posted, taken}) {
        while (list != nullptr && list != closed_mark()) {
            Request *const next = list->in_queue.next;
            const std::shared_ptr<Request> dropped = std::move(list->in_queue.self);
            list = next;
        }
    }
}

bool Queue::has_requests() noexcept {
    if (first_ != nullptr) {
        return true;
    }
    Request *head = posted_.load();
    do {
        if (head == nullptr || head == closed_mark()) {
            return false;
        }
    } while (!posted_.compare_exchange_weak(head, nullptr));
    last_ = head;
    taken_ = 0;
    while (head != nullptr) {  // the other way round
        ++taken_;
        Request *const next = std::exchange(head->in_queue.next, first_);
        first_ = head;
        head = next;
    }
    return true;
}

std::shared_ptr<Request> Queue::pop() noexcept {
    Request *const request = first_;
    first_ = request->in_queue.next;
    if (first_ == nullptr) {
        last_ = nullptr;
    }
    return std::move(request->in_queue.self);
}

void Queue::append(std::shared_ptr<Request> request) noexcept {
    Request *const added = request.get();
    added->in_queue.next = nullptr;
    added->in_queue.self = std::move(request);
    (last_ == nullptr ? first_ : last_->in_queue.next) = added;
    last_ = added;
}

// Called with the lock, which it has again when it returns. False when the time is up; else it is worth
// looking again.
bool Queue::wait(std::unique_lock<std::mutex> &lock, std::optional<Clock::time_point> until) {
    Clock::time_point now = Clock::now();
    if (until && *until <= now) {
        return false;
    }
    if (nap_.length().count() > 0) {
        const Clock::time_point end = now + nap_.length();
        is_urgent_ = false;
        nappers_.fetch_add(1);
        changed_.wait_until(lock, until ? std::min(*until, end) : end,
                            [this] { return is_urgent_ || is_closed_; });
        nappers_.fetch_sub(1);
        const bool found = is_closed_ || has_requests();
        nap_.napped(found);
        if (found) {
            nap_.bound(taken_);
            return true;
        }
        now = Clock::now();
    }
    sleepers_.fetch_add(1);
    const auto was_woken = [this] { return wakes_ > 0 || is_closed_; };
    bool is_there = has_requests();
    if (!is_there && !is_closed_) {
        if (until) {
            changed_.wait_until(lock, *until, was_woken);
        } else {
            changed_.wait(lock, was_woken);
        }
    }
    if (wakes_ > 0) {  // who woke a sleeper took it off the count; it need not have been this one
        --wakes_;
    } else {
        sleepers_.fetch_sub(1);
    }
    is_there = is_there || has_requests();
    if (is_there) {
        nap_.slept(Clock::now() - now);
    }
    return true;
}

std::int32_t Queue::next(std::optional<Clock::time_point> until, Event &event) {
    std::unique_lock lock(mutex_);
    while (true) {
        if (is_closed_) {
            throw Failure(DYNAMO_ERROR_CLOSED, "the queue was destroyed");
        }
        if (!has_requests()) {
            if (!wait(lock, until)) {
                return DYNAMO_PENDING;
            }
            continue;
        }
        std::shared_ptr<Request> request = pop();
        lock.unlock();
        bool has_more = false;
        const bool has_event = request->take_event(event, has_more);
        lock.lock();
        if (has_more && !is_closed_) {
            append(std::move(request));
        }
        if (has_event) {
            if (sleepers_.load(std::memory_order_relaxed) > 0 && first_ != nullptr) {
                sleepers_.fetch_sub(1, std::memory_order_relaxed);
                ++wakes_;
                changed_.notify_all();
            }
            lock.unlock();  // before `request`, which may be the last that holds it, goes
            return DYNAMO_OK;
        }
        if (request != nullptr) {  // likewise
            lock.unlock();
            request.reset();
            lock.lock();
        }
    }
}

}  // namespace dynamo
