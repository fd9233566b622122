// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "request.hpp"

DYNAMO_LLM_BEGIN

#if defined(DYNAMO_LLM_HAS_COROUTINES)

/** Resumes a coroutine at once, on the library's callback thread: for coroutines that only pass results on. While one
 * runs, the others wait. */
struct InlineExecutor {
    /** Resumes the coroutine. */
    void operator()(std::coroutine_handle<> coroutine) const { coroutine.resume(); }
};

/**
 * A request for coroutines: `while (auto received = co_await request.next())`.
 *
 * The executor decides where the coroutine continues: it is a function `void(std::coroutine_handle<>)` that arranges
 * for resume() to be called, in the program's own event loop or thread pool. It runs on the library's callback
 * thread, so it should only post. If it throws, the exception is logged and the request is cancelled, but nothing
 * resumes the coroutine: it is lost. No thread waits, and the stream stays bounded. The executor is stored on the
 * heap, once; a step allocates nothing.
 *
 * A waiting coroutine is resumed exactly once, whatever happens, also when the request is cancelled or the
 * AsyncRequest destroyed (with DYNAMO_ERROR_CANCELLED). The exception is a coroutine that is itself destroyed: once
 * destroy() has returned, the executor is not called for it any more (the program must drop a resumption that the
 * executor received before), and the next coroutine misses nothing. destroy() may have to wait for a call of the
 * executor, so do not hold a lock that the executor takes.
 *
 * Only one coroutine at a time may wait; a second one gets DYNAMO_ERROR_INVALID_STATE. Nothing else may receive from
 * the request.
 */
template <class Executor>
class AsyncRequest {
  public:
    class Next;

    /** @param request  must have been sent, and have no callback and no queue */
    AsyncRequest(Request request, Executor executor)
        : state_(std::make_shared<State>(request.get(), std::move(executor))),
          request_(std::move(request)) {}

    /** Returns the request, to cancel it or get its state. */
    const Request &request() const noexcept { return request_; }

    /** Returns an awaitable whose result is a Received that is never pending. It does not throw. */
    [[nodiscard]] Next next() const noexcept { return Next(state_); }

  private:
    // Shared with the library's callback thread; lives as long as either uses it.
    struct State : std::enable_shared_from_this<State> {
        State(dynamo_request_t *of, Executor to) : request(of), executor(std::move(to)) {}

        // All require `mutex`. wait() returns whether to suspend; if not, `received` has the reason.
        bool wait(Next *next) noexcept {
            const std::int32_t status = asked == nullptr ? ask() : DYNAMO_OK;
            if (status != DYNAMO_OK) {
                received.status = status;
                return false;
            }
            waiting = next;
            return true;
        }
        std::int32_t ask() noexcept {
            asked = this->shared_from_this();
            const std::int32_t status = dynamo_request_notify(request, &State::wake, this);
            if (status != DYNAMO_OK) {
                asked = nullptr;
            }
            return status;
        }
        void poll() noexcept {
            dynamo_response_t *response = nullptr;
            received.status = dynamo_request_next(request, 0, &response);
            received.response = Response(response);
        }
        static void wake(void *user) {
            const std::shared_ptr<State> state = static_cast<State *>(user)->shared_from_this();
            const std::lock_guard<std::recursive_mutex> lock(state->mutex);
            state->asked = nullptr;
            if (state->waiting == nullptr) {
                return;  // the coroutine was destroyed; the next one polls
            }
            state->poll();
            if (state->received.status == DYNAMO_ERROR_INVALID_HANDLE) {
                state->received.status =
                    DYNAMO_ERROR_CANCELLED;  // as a waiting thread gets it in C
            }
            if (state->received.is_pending()) {
                state->received.status = state->ask();
                if (state->received.status == DYNAMO_OK) {
                    state->received.status = DYNAMO_PENDING;
                    return;
                }
            }
            state->executor(state->waiting->coroutine_);
        }

        dynamo_request_t *const request;
        Executor executor;
        // Recursive, for executors that resume at once. Held while the executor is called, so that after a coroutine
        // was destroyed it is not resumed.
        std::recursive_mutex mutex;
        Next *waiting = nullptr;       // suspended, or woken and not resumed yet
        Received received;             // what to resume with; pending if there is nothing
        std::shared_ptr<State> asked;  // this object, while a call of wake() is outstanding
    };

  public:
    /** The awaitable of next(), to be awaited at once, by one coroutine. */
    class Next {
      public:
        /** @cond */
        explicit Next(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
        Next(const Next &) = delete;
        Next &operator=(const Next &) = delete;
        ~Next() {
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            if (state_->waiting == this) {
                state_->waiting = nullptr;
            }
        }

        bool await_ready() noexcept {
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            if (state_->waiting != nullptr) {
                is_second_ = true;
                return true;
            }
            if (state_->received.is_pending()) {
                state_->poll();
            }
            return !state_->received.is_pending();
        }
        // Not inlined: once the mutex is released the coroutine may run and end on another thread, and some compilers
        // keep the variables of an inlined function in its frame.
        [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> coroutine) noexcept {
            const std::shared_ptr<State> state = state_;  // outlives the lock
            const std::lock_guard<std::recursive_mutex> lock(state->mutex);
            coroutine_ = coroutine;
            return state->wait(this);
        }
        Received await_resume() noexcept {
            if (is_second_) {
                return {DYNAMO_ERROR_INVALID_STATE, Response()};
            }
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            state_->waiting = nullptr;
            return std::exchange(state_->received, Received());
        }
        /** @endcond */

      private:
        friend State;

        const std::shared_ptr<State> state_;
        std::coroutine_handle<> coroutine_;
        bool is_second_ = false;
    };

  private:
    std::shared_ptr<State> state_;
    Request request_;
};

/** Lets AsyncRequest(std::move(request), executor) deduce the type of the executor. */
template <class Executor>
AsyncRequest(Request, Executor) -> AsyncRequest<Executor>;

#endif  // DYNAMO_LLM_HAS_COROUTINES

DYNAMO_LLM_END
