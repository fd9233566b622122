// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "runtime.hpp"

DYNAMO_LLM_BEGIN

/** What the creation of a runtime does at present. */
struct Progress {
    /** "engine", and then what the engine reports: usually "download", "weights", "tokenizer", "warmup". */
    std::string phase;
    /** Name of the model in the configuration; "" if it has none. */
    std::string model;
    /** Bytes that have been read or downloaded in this phase. */
    std::uint64_t bytes_done = 0;
    /** Their total; 0 if it is not known. */
    std::uint64_t bytes_total = 0;
    /** How much of this phase is done, from 0 to 1; empty if it is not known. */
    std::optional<double> fraction;
};

/**
 * A runtime that is being created, by Runtime::create_async(). Destroying it cancels the creation.
 *
 * A thread waits for it with wait() or wait_for(), a coroutine with `co_await creation.resume_on(executor)`.
 */
class Creation : public Owner<dynamo_creation_t, dynamo_creation_destroy> {
  public:
    /** Makes an empty object, to be assigned to later. */
    explicit Creation(std::nullptr_t) noexcept : Owner(nullptr) {}

    /** Waits for the end of the creation. Returns whether it has ended. Errors: INVALID_STATE (it would wait for the
     * calling thread; see dynamo_creation_wait()). */
    template <class Rep, class Period>
    Returned<bool> wait_for(std::chrono::duration<Rep, Period> timeout) const {
        const std::int32_t status = wait_ms(detail::milliseconds(timeout));
        if (status < 0) {
            return detail::failed<bool>(Error::last());
        }
        return status == DYNAMO_OK;
    }

    /** Waits for the end, and returns the runtime, once. Errors: those of dynamo_runtime_create(), CANCELLED,
     * INVALID_STATE (it was returned before, or it would wait for the calling thread). */
    [[nodiscard]] Returned<Runtime> wait() const {
        if (wait_ms(detail::milliseconds(forever)) < 0) {
            return detail::failed<Runtime>(Error::last());
        }
        return take(state_);
    }

    /** Cancels the creation: it then ends with DYNAMO_ERROR_CANCELLED. Any thread may call this at any time. */
    void cancel() const noexcept { dynamo_creation_cancel(get()); }

#if defined(DYNAMO_LLM_HAS_COROUTINES)
    template <class Executor>
    class Wait;

    /** Returns an awaitable whose result is that of wait(). The executor, a function `void(std::coroutine_handle<>)`,
     * arranges for the coroutine to be resumed, as for AsyncRequest. Only one coroutine may wait. */
    template <class Executor>
    [[nodiscard]] Wait<Executor> resume_on(Executor executor) const {
        return Wait<Executor>(state_, std::move(executor));
    }
#endif

  private:
    friend class Runtime;

    // Shared with the library's callback thread; lives as long as either uses it.
    struct State {
        // Recursive, for executors that resume at once. Held while the executor is called, so that after a coroutine
        // was destroyed it is not resumed.
        std::recursive_mutex mutex;
        bool has_ended = false;
        Runtime runtime{nullptr};
        std::optional<Error> error;
        std::function<void()> resume;  // of the coroutine that waits

        void end() {
            const std::lock_guard<std::recursive_mutex> lock(mutex);
            has_ended = true;
            if (const std::function<void()> waiting = std::exchange(resume, nullptr)) {
                waiting();
            }
        }
    };

    // What the C callback gets: the state, and the function for the progress.
    struct Receiver {
        std::shared_ptr<State> state;
        std::function<void(const Progress &)> on_progress;

        static void on_event(void *user, const dynamo_creation_event_t *event) {
            Receiver &receiver = *static_cast<Receiver *>(user);
            if (event->status == DYNAMO_PENDING) {
                const dynamo_progress_t &given = *event->progress;
                if (receiver.on_progress) {
                    receiver.on_progress(
                        {given.phase, given.model, given.bytes_done, given.bytes_total,
                         given.fraction < 0 ? std::nullopt : std::optional(given.fraction)});
                }
                return;
            }
            State &state = *receiver.state;
            {
                Runtime runtime(event->runtime);
                const std::lock_guard<std::recursive_mutex> lock(state.mutex);
                state.runtime = std::move(runtime);
                if (event->status != DYNAMO_OK) {
                    state.error.emplace(event->status, event->error, event->error_json);
                }
            }
            state.end();
        }
        // Without a final event, the creation was destroyed: a coroutine that waits must be resumed all the same.
        static void release(void *user) {
            const std::unique_ptr<Receiver> receiver(static_cast<Receiver *>(user));
            State &state = *receiver->state;
            {
                const std::lock_guard<std::recursive_mutex> lock(state.mutex);
                if (state.has_ended) {
                    return;
                }
                state.error.emplace(error(DYNAMO_ERROR_CANCELLED, "DYNAMO_ERROR_CANCELLED",
                                          "the creation of the runtime was destroyed"));
            }
            state.end();
        }
    };

    std::int32_t wait_ms(std::int64_t timeout_ms) const {
        if (state_ == nullptr) {
            return DYNAMO_OK;
        }
        {
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            if (state_->has_ended) {
                return DYNAMO_OK;
            }
        }
        return dynamo_creation_wait(get(), timeout_ms);
    }

    Creation(dynamo_creation_t *handle, std::shared_ptr<State> state) noexcept
        : Owner(handle), state_(std::move(state)) {}

    static Error error(std::int32_t status, const char *name, const char *message) {
        return {status, message,
                std::string(R"({"status":)") + std::to_string(status) + R"(,"name":")" + name +
                    R"(","message":")" + message +
                    R"(","layer":"core","retriable":false,"fatal":false})"};
    }

    static Returned<Runtime> take(const std::shared_ptr<State> &state) {
        if (state != nullptr) {
            const std::lock_guard<std::recursive_mutex> lock(state->mutex);
            if (state->error) {
                return detail::failed<Runtime>(*state->error);
            }
            if (state->runtime) {
                return std::exchange(state->runtime, Runtime(nullptr));
            }
        }
        return detail::failed<Runtime>(error(DYNAMO_ERROR_INVALID_STATE,
                                             "DYNAMO_ERROR_INVALID_STATE",
                                             "the creation has no runtime: it is empty, or its "
                                             "runtime was returned before"));
    }

    static Returned<Creation> create(const std::string &config_json,
                                     std::function<void(const Progress &)> on_progress) {
        auto receiver = std::make_unique<Receiver>();
        receiver->state = std::make_shared<State>();
        receiver->on_progress = std::move(on_progress);
        const std::shared_ptr<State> state = receiver->state;
        dynamo_creation_t *const handle = dynamo_runtime_create_async(
            config_json.c_str(), Receiver::on_event, receiver.get(), Receiver::release);
        if (handle == nullptr) {
            return detail::failed<Creation>(Error::last());
        }
        receiver.release();
        return Creation(handle, state);
    }

    std::shared_ptr<State> state_;
};

#if defined(DYNAMO_LLM_HAS_COROUTINES)
/** The awaitable of Creation::resume_on(), to be awaited at once. */
template <class Executor>
class Creation::Wait {
  public:
    /** @cond */
    Wait(std::shared_ptr<State> state, Executor executor)
        : state_(std::move(state)), executor_(std::move(executor)) {}
    Wait(const Wait &) = delete;
    Wait &operator=(const Wait &) = delete;
    ~Wait() {
        if (is_waiting_) {
            const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
            state_->resume = nullptr;
        }
    }

    bool await_ready() const noexcept {
        if (state_ == nullptr) {
            return true;
        }
        const std::lock_guard<std::recursive_mutex> lock(state_->mutex);
        return state_->has_ended;
    }
    // Not inlined, as AsyncRequest::Next::await_suspend().
    [[gnu::noinline]] bool await_suspend(std::coroutine_handle<> coroutine) {
        const std::shared_ptr<State> state = state_;  // outlives the lock
        const std::lock_guard<std::recursive_mutex> lock(state->mutex);
        if (state->has_ended) {
            return false;
        }
        is_waiting_ = true;
        state->resume = [this, coroutine] { executor_(coroutine); };
        return true;
    }
    Returned<Runtime> await_resume() { return take(state_); }
    /** @endcond */

  private:
    const std::shared_ptr<State> state_;
    Executor executor_;
    bool is_waiting_ = false;
};
#endif

inline Returned<Creation> Runtime::create_async(const std::string &config_json,
                                                std::function<void(const Progress &)> on_progress) {
    return detail::checked<Creation>(detail::check_text(config_json, "config_json"), [&] {
        if (DYNAMO_LLM_VERSION_CHECK() != DYNAMO_OK) {
            return detail::failed<Creation>(Error::last());
        }
        return Creation::create(config_json, std::move(on_progress));
    });
}

inline Returned<Creation> Runtime::create_async(const Config &config,
                                                std::function<void(const Progress &)> on_progress) {
    return create_async(config.json(), std::move(on_progress));
}

DYNAMO_LLM_END
