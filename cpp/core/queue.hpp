// SPDX-License-Identifier: Apache-2.0
// A completion queue: many requests, and one place to wait for all of them.
//
// A request with something to take puts itself into a list without a lock, and once: it is in the list
// until a reader has taken everything. Readers take the whole list with one exchange and go through it in
// order, one response each, so that no request keeps the others waiting. Only a reader that sleeps is
// woken, by the first that comes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "core/handle.hpp"
#include "core/nap.hpp"
#include "core/response.hpp"
#include "dynamo_llm.h"

namespace dynamo {

class Request;

class Queue : public std::enable_shared_from_this<Queue> {
  public:
    struct Event {
        dynamo_request_t *request = nullptr;
        void *user = nullptr;
        std::shared_ptr<Response> response;
        std::int32_t status = DYNAMO_OK;
    };

    Queue() = default;
    Queue(const Queue &) = delete;
    Queue &operator=(const Queue &) = delete;
    ~Queue() { close(); }

    // DYNAMO_OK with an event, or PENDING when the time is up. Throws Failure with CLOSED.
    std::int32_t next(std::optional<Clock::time_point> until, Event &event);

    // Readers get CLOSED from now on, and requests have nowhere to go.
    void close() noexcept;

    // --- of requests ---
    // There is something to take. Any thread; allocates nothing. Not again until the request was told that
    // nothing is left.
    void post(std::shared_ptr<Request> request) noexcept;
    // A request that was posted should be taken soon.
    void hurry() noexcept;

  private:
    bool has_requests() noexcept;  // with the lock
    std::shared_ptr<Request> pop() noexcept;
    void append(std::shared_ptr<Request> request) noexcept;
    bool wait(std::unique_lock<std::mutex> &lock, std::optional<Clock::time_point> until);

    // What was posted, the last one first; the end of it is nullptr, or the mark of a queue that is closed.
    std::atomic<Request *> posted_{nullptr};
    std::atomic<int> sleepers_{0};
    std::atomic<int> nappers_{0};

    std::mutex mutex_;  // of readers; others take it to wake one
    std::condition_variable changed_;
    Request *first_ = nullptr;  // what readers took over, in order
    Request *last_ = nullptr;
    std::size_t taken_ = 0;  // how many the last exchange gave
    int wakes_ = 0;          // of sleepers that were woken, and have not noticed
    bool is_urgent_ = false;
    bool is_closed_ = false;
    Nap nap_;
};

template <>
struct HandleTraits<Queue> {
    using CType = dynamo_queue_t;
    static constexpr HandleKind kind = HandleKind::queue;
};

}  // namespace dynamo
