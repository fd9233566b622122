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
#include "core/queue.hpp"
#include "core/stream.hpp"
#include "core/timer.hpp"

namespace dynamo {

class Model;
struct Limits;
class Runtime;

// The engine's view of a request: the same object, behind a handle of its own.
class EngineStream {};

class Request final : public EngineStream,
                      public StreamOwner,
                      public std::enable_shared_from_this<Request> {
  public:
    explicit Request(Body body);

    // Of the queue: the place in its list, and what keeps the request alive there. It stands before the
    // others since each token needs it.
    struct {
        Request *next = nullptr;
        std::shared_ptr<Request> self;
    } in_queue;

    // --- the caller's side ---
    void set_deadlines(std::int64_t first_token_ms, std::int64_t total_ms);
    void set_callback(dynamo_response_callback_t callback, void *user,
                      dynamo_release_callback_t release);
    void set_queue(std::shared_ptr<Queue> queue, void *user);
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
    Stream::Pushed push(const dynamo_chunk_t &chunk) {
        const Stream::Pushed pushed = stream_.push(chunk);
        return pushed == Stream::Pushed::overflow ? overflow() : pushed;
    }
    // Until the deadline to the end; -1 if there is none.
    std::int64_t remaining_ms() const;
    bool wait_for_space(std::optional<Clock::time_point> until) {
        return stream_.wait_for_space(until);
    }
    bool has_ended() const { return stream_.is_end_claimed(); }
    // has_ended(), of an engine that is about to make a token: what the push needs is loaded meanwhile.
    bool has_ended_before_push() const {
        const auto *const begin = reinterpret_cast<const char *>(this);
        const auto *const end = reinterpret_cast<const char *>(&stream_ + 1);
        platform::prefetch_to_write(begin, static_cast<std::size_t>(end - begin));
        return stream_.is_end_claimed_before_push();
    }
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

    // --- the queue's side ---
    // Takes one event; false if there is none. has_more: there is more to take at once; if not, the
    // request posts itself again.
    bool take_event(Queue::Event &event, bool &has_more);

  private:
    enum class Phase { created, queued, starting, sent };

    void on_ready() override;
    void on_urgent() override;
    void on_space() override;
    Stream::Pushed overflow();
    void end(const Error &error);
    void require_no_delivery() const;
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

    std::shared_ptr<Queue> queue_;  // set before it is sent, as the callback is
    void *queue_user_ = nullptr;
    dynamo_request_t *handle_ = nullptr;
    Stream stream_{*this};
    std::atomic<bool> abandoned_{false};

    const std::string id_;
    Body body_;  // without its text once the engine has it, which may be long

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
    struct ErrorTexts {
        std::string message;
        std::string json;
    };
    std::unique_ptr<const ErrorTexts>
        error_texts_;  // callers may hold pointers to them; written once

    dynamo_response_callback_t callback_ = nullptr;
    void *callback_user_ = nullptr;
    dynamo_release_callback_t callback_release_ = nullptr;
    dynamo_ready_callback_t ready_callback_ = nullptr;  // until it is called
    void *ready_user_ = nullptr;
    std::atomic<bool> callback_done_{false};
    bool end_was_called_ = false;  // of the dispatcher's thread
};

template <>
struct HandleTraits<Request> {
    using CType = dynamo_request_t;
    static constexpr HandleKind kind = HandleKind::request;
};

inline Request &request_of(EngineStream &stream) noexcept {
    return static_cast<Request &>(stream);
}

template <>
struct HandleTraits<EngineStream> {
    using CType = dynamo_stream_t;
    static constexpr HandleKind kind = HandleKind::stream;
};

}  // namespace dynamo
