// SPDX-License-Identifier: Apache-2.0
// A completion queue: one place to wait for the events of many requests.
//
// A request with an event pushes itself onto a lock-free list, and stays in the queue until a reader has taken all its
// events. Readers take the whole list with one exchange and then serve it in order, one event per request, so that no
// request starves the others. Only a sleeping reader is woken, by the first request. So is the descriptor, if there
// is one: it is written when the list gets its first request, and read when a reader leaves nothing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "base/handle.hpp"
#include "base/platform.hpp"
#include "dynamo_llm.h"
#include "stream/response.hpp"
#include "stream/timed_poll.hpp"

namespace dynamo {

class QueueSource;

class Queue : public std::enable_shared_from_this<Queue> {
  public:
    struct Event {
        dynamo_request_t *request = nullptr;
        void *user = nullptr;
        std::shared_ptr<Response> response;
        std::int32_t status = DYNAMO_OK;
    };

    ~Queue() { close(); }

    // Returns DYNAMO_OK with an event, or PENDING at the timeout or for a wake(). Throws Failure with CLOSED, or with
    // INVALID_STATE where this thread must not wait.
    std::int32_t next(std::optional<Clock::time_point> until, Event &event);

    // Returns a descriptor that is readable while next() would return without waiting, or a request may have an event.
    // Throws Failure with SYSTEM, NOT_SUPPORTED, or INVALID_HANDLE.
    int fd();

    // Makes one call of next() return PENDING: one that waits, or the next one.
    void wake() noexcept;

    // From now on readers get CLOSED, and posted requests are dropped. Closes the descriptor.
    void close() noexcept;

    // --- the requests' side ---
    // Called when a request has an event. Not again until take_event() has reported that nothing is left. Thread-safe;
    // allocates nothing.
    void post(std::shared_ptr<QueueSource> source) noexcept;
    // Wakes polling readers, because a posted request is urgent.
    void wake_pollers() noexcept;
    // From now on the queue has requests of hosted engines; see base/wait_check.hpp.
    void set_hosted() noexcept;

  private:
    // All of these require mutex_.
    bool has_requests() noexcept;
    std::shared_ptr<QueueSource> pop() noexcept;
    void append(std::shared_ptr<QueueSource> source) noexcept;
    bool wait(std::unique_lock<std::mutex> &lock, std::optional<Clock::time_point> until);
    void wake_another() noexcept;
    bool is_ready() const noexcept;
    void update_fd() noexcept;

    // The posted requests, newest first. The list ends with nullptr, or with the mark of a closed queue.
    std::atomic<QueueSource *> posted_{nullptr};
    std::atomic<int> sleepers_{0};
    std::atomic<int> pollers_{0};
    std::atomic<bool> has_fd_{false};

    std::mutex mutex_;  // of the readers; others lock it only to wake one
    std::condition_variable changed_;
    QueueSource *first_ = nullptr;  // the requests that readers took from posted_, oldest first
    QueueSource *last_ = nullptr;
    std::size_t last_batch_ = 0;  // the number of requests that the last exchange returned
    int pending_wakeups_ = 0;     // sleepers that were woken and have not run yet
    std::uint64_t wakes_ = 0;     // calls of wake() that no reader has taken
    std::unique_ptr<platform::Notifier> notifier_;
    bool is_urgent_ = false;
    bool is_closed_ = false;
    std::atomic<bool> is_hosted_{false};  // changes once, under the lock
    TimedPoll poll_;
};

// A request as the queue sees it: a source of events, and a node of the queue's list.
class QueueSource {
  public:
    // Takes one event; returns false without one. has_more: another one can be taken at once; otherwise the source
    // posts itself again when it has one.
    virtual bool take_event(Queue::Event &event, bool &has_more) = 0;

  protected:
    ~QueueSource() = default;

  private:
    friend class Queue;
    QueueSource *next_ = nullptr;
    std::shared_ptr<QueueSource> self_;  // keeps the source alive while it is in the list
};

template <>
struct HandleTraits<Queue> {
    using CType = dynamo_queue_t;
    static constexpr HandleKind kind = HandleKind::queue;
};

}  // namespace dynamo
