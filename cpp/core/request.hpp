// SPDX-License-Identifier: Apache-2.0
// One run: what a caller holds and what an engine works on.
//
// It has two lives. The caller's ends with the stream's terminal event: the answer's end, an error,
// a cancel, a deadline. The engine's ends when the engine lets go of its stream handle. Each may
// end first.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/body.hpp"
#include "core/handle.hpp"
#include "core/stream.hpp"
#include "core/timer.hpp"

namespace dynamo {

class Model;
struct Limits;
class Runtime;

class Request final : public StreamOwner, public std::enable_shared_from_this<Request> {
  public:
    explicit Request(Body body);

    // --- the caller's side ---
    void set_deadlines(std::int64_t first_token_ms, std::int64_t total_ms);
    void set_callback(dynamo_response_callback_t callback, void *user,
                      dynamo_release_callback_t release);
    void send(const std::shared_ptr<Runtime> &runtime);
    std::int32_t take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out);
    int fd();
    void notify(dynamo_ready_callback_t callback, void *user);
    void cancel(const char *why);
    void abandon();  // the caller destroyed the handle
    std::int32_t status() const { return stream_.status(); }
    Timing timing() const { return stream_.timing(); }
    Error failure() const { return full_error(); }  // what ended it
    const std::string *error();                     // nullptr if there is none
    const std::string *error_json();                // likewise
    const std::string &id() const { return id_; }
    void set_handle(dynamo_request_t *handle) { handle_ = handle; }

    // --- the engine's side ---
    Stream::Pushed push(const dynamo_chunk_t &chunk);
    // Until the deadline to the end; -1 if there is none.
    std::int64_t remaining_ms() const;
    bool wait_for_space(std::optional<Clock::time_point> until) {
        return stream_.wait_for_space(until);
    }
    bool has_ended() const { return stream_.is_end_claimed(); }
    // Both let go of the engine's side.
    void finish(const char *reason, const std::optional<Usage> &usage);
    void fail(const Error &error);

    // --- the runtime's side ---
    std::uint64_t pushed_tokens() const { return stream_.pushed_tokens(); }
    std::uint64_t times_full() const { return stream_.times_full(); }
    // A request that waited in the queue goes to its engine.
    void start();

    // --- the dispatcher's side ---
    // Calls the callback with one event, or the one of notify(). True if there may be more. Throws what
    // the callback throws, and std::bad_alloc, with nothing taken.
    bool deliver();

    // Of the dispatcher, under its lock: the next one in its queue, which has no memory of its own.
    std::shared_ptr<Request> next_to_deliver;
    bool waits_for_delivery = false;

  private:
    enum class Phase { created, queued, starting, sent };

    void on_ready() override;
    void on_space() override;
    void end(const Error &error);
    std::shared_ptr<Runtime> require_receivable() const;
    void before_end(std::int32_t status);
    std::shared_ptr<Runtime> runtime() const;
    Model &model() const;
    void send_to(const std::shared_ptr<Runtime> &runtime);
    void hand_to_engine();
    void wait_in_queue(Runtime &runtime);
    void withdraw();
    Error full_error() const;

    // The instance of the engine may be stopped once its last request is dismissed, so a request is
    // dismissed only when the engine let go of it and no call into the engine is under way.
    dynamo_stream_t *begin_engine_call();  // nullptr if there is no call to make
    void end_engine_call();
    void let_go_of_engine();
    void dismiss_if_due(std::unique_lock<std::mutex> &lock);

    void arm_deadlines(const Limits &limits);
    void disarm_deadlines();

    const std::string id_;
    const Body body_;
    Stream stream_{*this};
    dynamo_request_t *handle_ = nullptr;

    mutable std::mutex mutex_;  // guards what follows; never held while others' code runs
    Phase phase_ = Phase::created;
    bool is_accepted_ = false;           // send() will not take it back
    bool space_while_starting_ = false;  // the engine was not told
    std::shared_ptr<Runtime> runtime_;
    Model *model_ = nullptr;                    // of the runtime
    dynamo_stream_t *engine_handle_ = nullptr;  // nullptr once the engine let go
    int engine_calls_ = 0;
    bool dismissal_is_due_ = false;
    std::int64_t first_token_ms_ = -1;
    std::int64_t total_ms_ = -1;
    timer::Id first_token_timer_ = 0;
    timer::Id total_timer_ = 0;
    std::optional<Clock::time_point> total_deadline_;
    std::string error_;  // texts that callers may hold pointers to; written once
    std::string error_json_;

    dynamo_response_callback_t callback_ = nullptr;
    void *callback_user_ = nullptr;
    dynamo_release_callback_t callback_release_ = nullptr;
    dynamo_ready_callback_t ready_callback_ = nullptr;  // until it is called
    void *ready_user_ = nullptr;
    std::atomic<bool> abandoned_{false};
    std::atomic<bool> callback_done_{false};
    bool end_was_called_ = false;  // of the dispatcher's thread
};

template <>
struct HandleTraits<Request> {
    using CType = dynamo_request_t;
    static constexpr HandleKind kind = HandleKind::request;
};

// The engine's view of a request is the same object behind a handle of its own.
struct EngineStream {
    std::shared_ptr<Request> request;
};

template <>
struct HandleTraits<EngineStream> {
    using CType = dynamo_stream_t;
    static constexpr HandleKind kind = HandleKind::stream;
};

}  // namespace dynamo
