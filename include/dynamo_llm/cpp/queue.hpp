// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "response.hpp"
#include "time.hpp"

DYNAMO_LLM_BEGIN

/** Result of Queue::next(): an event of one of its requests, or why there is none. */
struct Event {
    /** DYNAMO_OK with a response; in a terminal event, DYNAMO_END or the error that ended the request; without a
     * request, DYNAMO_PENDING (no event) or why there are no events. */
    std::int32_t status = DYNAMO_PENDING;
    /** Empty unless status is DYNAMO_OK. */
    Response response;
    /** The request; not owned. */
    dynamo_request_t *request = nullptr;
    /** As passed to Request::set_queue(). */
    void *user = nullptr;

    /** Returns whether there is a response. */
    explicit operator bool() const noexcept { return status == DYNAMO_OK; }
    /** Returns whether nothing had arrived yet. */
    bool is_pending() const noexcept { return status == DYNAMO_PENDING; }
    /** Returns whether this was the request's last event. */
    bool has_ended() const noexcept { return request != nullptr && status != DYNAMO_OK; }
};

/** A completion queue: one thread receives the events of many requests. */
class Queue : public Owner<dynamo_queue_t, dynamo_queue_destroy> {
  public:
    using Owner::Owner;
    Queue() noexcept : Owner(nullptr) {}
    /** Creates a queue. Errors: OUT_OF_MEMORY. */
    [[nodiscard]] static Returned<Queue> create() {
        return detail::owned<Queue>(dynamo_queue_create());
    }

    /** Waits for the next event. Never throws: the result has the status. Several threads may wait; see
     * dynamo_queue_next(). */
    template <class Rep, class Period>
    Event next(std::chrono::duration<Rep, Period> timeout) const noexcept {
        dynamo_event_t event{};
        event.struct_size = sizeof event;
        const std::int32_t status = dynamo_queue_next(get(), detail::milliseconds(timeout), &event);
        if (status != DYNAMO_OK) {
            return {status, Response(), nullptr, nullptr};
        }
        return {event.status, Response(event.response), event.request, event.user};
    }
    /** Waits without a limit. */
    Event next() const noexcept { return next(forever); }
    /** Does not wait. */
    Event poll() const noexcept { return next(std::chrono::milliseconds(0)); }

    /** Returns a file descriptor for poll(2) and event loops, which is readable while there is an event, and after
     * wake(); then call poll() until its result is pending. It is valid as long as the queue. Errors: INVALID_HANDLE,
     * SYSTEM, NOT_SUPPORTED. */
    Returned<int> fd() const {
        const int descriptor = dynamo_queue_fd(get());
        if (descriptor < 0) {
            return detail::failed<int>(Error::last());
        }
        return descriptor;
    }
    /** Makes one call of next() return without an event: one that waits, or else the next one. Any thread may call this
     * at any time. */
    void wake() const noexcept { dynamo_queue_wake(get()); }
};

DYNAMO_LLM_END
