// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "queue.hpp"

DYNAMO_LLM_BEGIN

/** Result of Request::next(), and argument of a callback: a response, or why there is none. */
struct Received {
    /** DYNAMO_OK with a response; otherwise DYNAMO_PENDING, DYNAMO_END, or the error that ended the request. */
    std::int32_t status = DYNAMO_PENDING;
    /** Empty unless status is DYNAMO_OK. */
    Response response;

    /** Returns whether there is a response. */
    explicit operator bool() const noexcept { return status == DYNAMO_OK; }
    /** Returns whether nothing had arrived yet. */
    bool is_pending() const noexcept { return status == DYNAMO_PENDING; }
    /** Returns whether this was the last one: the end, or an error. */
    bool has_ended() const noexcept { return status != DYNAMO_OK && status != DYNAMO_PENDING; }
};

/** A request: one run, from its body to its terminal event. Destroying it cancels it. */
class Request : public Owner<dynamo_request_t, dynamo_request_destroy> {
  public:
    using Owner::Owner;
    Request() noexcept : Owner(nullptr) {}

    /** Creates a request from an OpenAI body in JSON. Errors: INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST. */
    [[nodiscard]] static Returned<Request> create(const std::string &json) {
        return detail::checked<Request>(detail::check_text(json, "request_json"), [&] {
            return detail::owned<Request>(dynamo_request_create(json.c_str()));
        });
    }
    /** Creates a raw request with a JSON text, for raw engines. Errors: INVALID_JSON. */
    [[nodiscard]] static Returned<Request> of_json(std::string_view json) {
        return of_data(DYNAMO_DATA_JSON, json);
    }
    /** Creates a raw request with any bytes, for raw engines. */
    [[nodiscard]] static Returned<Request> of_bytes(std::string_view bytes) {
        return of_data(DYNAMO_DATA_BYTES, bytes);
    }
    /** Creates a request from a Chat, Completion, or Embedding. */
    template <class Body, class = decltype(std::declval<const Body &>().json())>
    [[nodiscard]] static Returned<Request> create(const Body &body) {
        return create(body.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** Same as create(). */
    explicit Request(const std::string &json) : Request(create(json)) {}
    /** Same as create(). */
    template <class Body, class = decltype(std::declval<const Body &>().json())>
    explicit Request(const Body &body) : Request(create(body)) {}
#endif

    /** Sets the deadlines for the first token and for the end, counted from sending. Call it before sending. Errors:
     * INVALID_ARGUMENT (0), INVALID_STATE (already sent). */
    template <class First, class Total = std::chrono::milliseconds>
    Returned<void> set_deadlines(First first_token, Total total = forever) {
        return detail::done(dynamo_request_set_deadlines(get(), detail::milliseconds(first_token),
                                                         detail::milliseconds(total)));
    }

    /**
     * Delivers events to a function `void(Received)` on the library's callback thread, instead of next(). Call this
     * before sending. The function is copied or moved to the heap, once, and destroyed after the terminal event. If it
     * throws, the request is cancelled, and the exception is logged. Errors: INVALID_STATE (already sent, or has a
     * callback or a queue).
     */
    template <class Function>
    Returned<void> set_callback(Function &&function) {
        using Kept = std::decay_t<Function>;
        auto kept = std::make_unique<Kept>(std::forward<Function>(function));
        const std::int32_t status = dynamo_request_set_callback(
            get(),
            [](void *user, dynamo_request_t *, dynamo_response_t *response, std::int32_t outcome) {
                Received received{outcome, Response(response)};
                (*static_cast<Kept *>(user))(std::move(received));
            },
            kept.get(), [](void *user) { delete static_cast<Kept *>(user); });
        if (status == DYNAMO_OK) {
            kept.release();
        }
        return detail::done(status);
    }

    /** Delivers events to a queue, with `user`, instead of next(). Call this before sending. Errors: INVALID_HANDLE,
     * INVALID_STATE (already sent, or has a queue or a callback). */
    Returned<void> set_queue(const Queue &queue, void *user = nullptr) {
        return detail::done(dynamo_request_set_queue(get(), queue.get(), user));
    }

    /** Waits for more of the answer. Never throws: the result has the status, and error() the error. */
    template <class Rep, class Period>
    Received next(std::chrono::duration<Rep, Period> timeout) const noexcept {
        dynamo_response_t *response = nullptr;
        const std::int32_t status =
            dynamo_request_next(get(), detail::milliseconds(timeout), &response);
        return {status, Response(response)};
    }
    /** Waits without a limit. */
    Received next() const noexcept { return next(forever); }
    /** Does not wait. */
    Received poll() const noexcept { return next(std::chrono::milliseconds(0)); }

    /** Waits for more of the answer. Returns an empty Response after the end. Errors: the error that ended the request;
     * INVALID_HANDLE, INVALID_STATE (not sent, or has a callback or a queue). With exceptions, the exit of the process
     * is an end, not an error: an exception that escapes from a thread would terminate the program. */
    Returned<Response> recv() const {
        Received received = next();
        if (received.status < 0) {
            Error error = Error::last();
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
            if (error.is_exiting()) {
                return Response();
            }
#endif
            return detail::failed<Response>(std::move(error));
        }
        return std::move(received.response);
    }

    /** Cancels the request: its terminal event is then DYNAMO_ERROR_CANCELLED. Any thread may call this at any time,
     * also repeatedly. */
    void cancel() const noexcept { dynamo_request_cancel(get()); }

    /** Returns a file descriptor for poll(2) and event loops, which is readable while poll() would return something. It
     * is valid as long as the request. Errors: INVALID_HANDLE, INVALID_STATE, SYSTEM, NOT_SUPPORTED. */
    Returned<int> fd() const {
        const int descriptor = dynamo_request_fd(get());
        if (descriptor < 0) {
            return detail::failed<int>(Error::last());
        }
        return descriptor;
    }

    /** Returns DYNAMO_PENDING before the end, then DYNAMO_END or the error that ended the request. */
    std::int32_t status() const noexcept { return dynamo_request_status(get()); }
    /** Returns the error that ended the request, if any. */
    std::optional<Error> error() const {
        const char *const message = dynamo_request_error(get());
        if (message == nullptr) {
            return std::nullopt;
        }
        return Error(status(), message, dynamo_request_error_json(get()));
    }
    /** Returns the token counts so far, also after a cancel, a deadline, or an error; see dynamo_request_usage(). They
     * are 0 without a handle. */
    Usage usage() const noexcept {
        dynamo_usage_t counts{};
        counts.struct_size = sizeof counts;
        dynamo_request_usage(get(), &counts);
        return detail::usage(counts);
    }
    /** Returns the timestamps so far. They are empty without a handle. */
    Timing timing() const noexcept {
        dynamo_timing_t times{};
        times.struct_size = sizeof times;
        return dynamo_request_timing(get(), &times) == DYNAMO_OK ? detail::timing(times) : Timing();
    }
    /** Returns the id: "req-" and 16 hexadecimal digits. It is valid as long as the request; "" without a handle. */
    std::string_view id() const noexcept { return detail::view(dynamo_request_id(get())); }

    /**
     * The responses as a range: `for (auto &response : request)`; an input_range in C++20. begin() and each step wait
     * for the next response; a step frees the previous one. With exceptions, the step that encounters an error throws
     * it, unless the process is exiting. Without exceptions, the loop ends, and status() is DYNAMO_END only after the
     * whole answer.
     */
    class Iterator {
      public:
        /** @cond */
        // Move-only, so it is a C++20 iterator but not a C++17 one.
        using iterator_concept = std::input_iterator_tag;
        using value_type = Response;
        using difference_type = std::ptrdiff_t;

        Iterator() = default;
        explicit Iterator(dynamo_request_t *request) : request_(request) { ++*this; }

        Response &operator*() const noexcept { return response_; }
        Response *operator->() const noexcept { return &response_; }
        Iterator &operator++() {
            dynamo_response_t *const next = dynamo_request_recv(request_);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
            if (next == nullptr && dynamo_last_status() < 0) {
                detail::fail_unless_exiting();
            }
#endif
            response_ = Response(next);
            return *this;
        }
        void operator++(int) { ++*this; }
        /** @endcond */

        /** The sentinel. */
        struct End {};
        friend bool operator==(const Iterator &it, End) noexcept { return !it.response_; }
        friend bool operator!=(const Iterator &it, End) noexcept { return bool(it.response_); }
        friend bool operator==(End, const Iterator &it) noexcept { return !it.response_; }
        friend bool operator!=(End, const Iterator &it) noexcept { return bool(it.response_); }

      private:
        dynamo_request_t *request_ = nullptr;  // still valid if the Request is moved
        mutable Response response_;            // owned by the iterator, as it is by a caller in C
    };
    /** Waits for the first response. */
    Iterator begin() const { return Iterator(get()); }
    /** Returns the sentinel. */
    Iterator::End end() const noexcept { return {}; }

#if defined(DYNAMO_LLM_HAS_STOP_TOKEN)
    /** Cancels a request. Safe after its end, and after it was destroyed. */
    class Canceller {
      public:
        /** Does not own the request. */
        explicit Canceller(dynamo_request_t *request) noexcept : request_(request) {}
        /** Cancels the request. */
        void operator()() const noexcept { dynamo_request_cancel(request_); }

      private:
        dynamo_request_t *request_;
    };
    /** Cancels the request when a stop is requested, as long as the result exists. */
    [[nodiscard]] std::stop_callback<Canceller> cancel_on(std::stop_token token) const {
        return std::stop_callback<Canceller>(std::move(token), Canceller(get()));
    }
#endif

  private:
    static Returned<Request> of_data(std::int32_t kind, std::string_view data) {
        return detail::owned<Request>(dynamo_request_create_data(kind, data.data(), data.size()));
    }
};

DYNAMO_LLM_END
