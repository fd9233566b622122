// SPDX-License-Identifier: Apache-2.0
// One run: what a caller holds and what an engine works on.
//
// A request has two lives. The caller's ends with the terminal event of the stream: the end of the answer, an error, a
// cancel, a deadline. The engine's ends when the engine releases its stream handle. Either may end first.
//
//   request.cpp           the caller's side, and ending a request
//   request_start.cpp     sending: admission, the queue, and the trial of an engine that may refuse
//   request_engine.cpp    the engine's side
//   request_delivery.cpp  delivery to a callback or a queue
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/handle.hpp"
#include "runtime/body.hpp"
#include "runtime/deadlines.hpp"
#include "stream/dispatcher.hpp"
#include "stream/queue.hpp"
#include "stream/stream.hpp"

namespace dynamo {

class Engine;
class Model;
struct Limits;
class Runtime;

// The engine's view of a request: the same object, behind a handle of its own.
class EngineStream {};

// QueueSource is the first base, because each token needs its members.
class Request final : public QueueSource,
                      public EngineStream,
                      public StreamOwner,
                      public Deliverable,
                      public std::enable_shared_from_this<Request> {
  public:
    explicit Request(Body body);

    // --- the caller's side ---
    void set_deadlines(std::int64_t first_token_ms, std::int64_t total_ms);
    void set_callback(dynamo_response_callback_t callback, void *user,
                      dynamo_release_callback_t release);
    void set_queue(std::shared_ptr<Queue> queue, void *user);
    void send(const std::shared_ptr<Runtime> &runtime);
    // For callers that receive without having checked the status of send().
    void remember_failed_send(const Error &error) noexcept;
    std::int32_t take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out);
    int fd();
    void notify(dynamo_ready_callback_t callback, void *user);
    void cancel(const char *why);
    void abandon();  // the caller destroyed the handle
    std::int32_t status() const { return stream_.status(); }
    Timing timing() const { return stream_.timing(); }
    Usage usage() const { return stream_.usage(); }
    Error failure() const;            // what ended the request
    const std::string *error();       // nullptr without an error
    const std::string *error_json();  // likewise
    const std::string &id() const { return id_; }
    void set_handle(dynamo_request_t *handle) { handle_ = handle; }

    // --- the engine's side ---
    // An engine is identified by its stream handle: one that refused the request, or released the stream, may have
    // another thread in any of these functions while the request is with the next engine. Such a thread gets `stale`,
    // or Failure with INVALID_HANDLE.
    Stream::PushResult push(const dynamo_stream_t *engine, const dynamo_chunk_t &chunk) {
        const Stream::PushResult pushed = stream_.push(engine, chunk);
        return pushed == Stream::PushResult::overflow ? overflow(engine) : pushed;
    }
    Stream::PushResult set_text_stage(const dynamo_stream_t *engine, std::uint32_t index,
                                      std::unique_ptr<TextStage> stage,
                                      std::uint64_t prompt_tokens) {
        return stream_.set_text_stage(engine, index, std::move(stage), prompt_tokens);
    }
    // Passes the request on to the engine of another runtime, which gets `body`, and from then on has the stream and its
    // handle. Until the other engine has accepted the request, nothing changes. Throws Failure.
    void forward(const dynamo_stream_t *engine, const std::shared_ptr<Runtime> &target,
                 const Body &body);
    // Milliseconds until the deadline to the end; -1 without one.
    std::int64_t remaining_ms(const dynamo_stream_t *engine) const;
    Stream::PushResult set_queued(const dynamo_stream_t *engine, bool is_queued) {
        return stream_.set_queued(engine, is_queued);
    }
    Stream::PushResult wait_until_writable(const dynamo_stream_t *engine,
                                           std::optional<Clock::time_point> until);
    bool has_ended() const { return stream_.is_end_claimed(); }
    // Returns ok, closed if the request ended on the caller's side, or stale. An engine asks before it computes a
    // token, so this prefetches what the push will need.
    Stream::PushResult state_before_push(const dynamo_stream_t *engine) const {
        const auto *const begin = reinterpret_cast<const char *>(this);
        const auto *const end = reinterpret_cast<const char *>(&stream_ + 1);
        platform::prefetch_to_write(begin, static_cast<std::size_t>(end - begin));
        return stream_.state_before_push(engine);
    }
    // Both release the engine's side.
    void finish(const dynamo_stream_t *engine, const char *reason,
                const std::optional<Usage> &usage);
    void fail(const dynamo_stream_t *engine, const Error &error);

    // --- the runtime's side ---
    bool has_callback() const;
    std::uint64_t pushed_tokens() const { return stream_.pushed_tokens(); }
    std::uint64_t times_full() const { return stream_.times_full(); }
    // Submits a queued request to its engine.
    void start();

    // --- the timer's side ---
    void expire(Deadlines::Kind kind, std::int64_t milliseconds);

    // --- the dispatcher's side ---
    // Calls the callback of responses, or that of notify().
    bool deliver() override;

    // --- the queue's side ---
    bool take_event(Queue::Event &event, bool &has_more) override;

  private:
    enum class Phase { created, queued, starting, sent };

    // The caller's side. require_*() require mutex_.
    void require_unsent(const char *setting) const;
    void require_receivable() const;
    void require_no_delivery() const;
    void end(const Error &error);
    void on_end_claimed(std::int32_t status);
    void count_end(std::int32_t status, Runtime &runtime, Model &model);
    std::shared_ptr<Runtime> runtime() const;
    Model &model() const;
    Engine &engine() const;  // that has the request now

    // Sending.
    void send_to(const std::shared_ptr<Runtime> &runtime);
    ResponseHeadPtr make_head(const Model &model) const;
    void submit_to_engine();
    void accept(Engine &engine, dynamo_stream_t *engine_handle);
    void roll_back(Runtime &runtime);
    void fail_start(const Error &error);
    void enter_queue(Runtime &runtime);
    void leave_queue();
    void arm_deadlines(const Limits &limits);
    void disarm_deadlines();

    // Delivery.
    void on_ready() override;
    void on_urgent() override;
    void invoke_callback(dynamo_response_t *response, std::int32_t status);

    // The engine's side. An engine may be stopped once its last request is dismissed, so a request is dismissed only
    // when the engine has released it and no call into the engine is running.
    class EngineCall {
      public:
        enum AlreadyCounted { already_counted };
        explicit EngineCall(Request &request);
        EngineCall(Request &request, AlreadyCounted) : request_(request), is_counted_(true) {}
        ~EngineCall();
        EngineCall(const EngineCall &) = delete;
        dynamo_stream_t *handle() const { return handle_; }  // nullptr: there is no call to make

      private:
        Request &request_;
        dynamo_stream_t *handle_ = nullptr;
        bool is_counted_ = false;
    };
    // How an engine ends its stream: with an error, or with a reason and counts.
    struct EngineEnd {
        std::optional<Error> error;
        std::optional<std::string> reason;
        std::optional<Usage> usage;
    };
    void on_writable() override;
    void notify_writable(Engine &engine, dynamo_stream_t *engine_handle);
    Stream::PushResult overflow(const dynamo_stream_t *engine);
    // Takes the stream from the engine. Returns the runtime, or nullptr if the end waits for accept(). Throws Failure
    // with INVALID_HANDLE.
    template <class MakeEnd>
    std::shared_ptr<Runtime> detach_engine(const dynamo_stream_t *engine, MakeEnd make_end);
    void end_from_engine(const std::shared_ptr<Runtime> &runtime, const EngineEnd &end,
                         bool releases_engine);
    template <class Publish>
    void end_from_engine(const std::shared_ptr<Runtime> &runtime, std::int32_t status,
                         bool releases_engine, Publish publish);
    dynamo_stream_t *begin_forward(const dynamo_stream_t *engine,
                                   const std::shared_ptr<Runtime> &target, Model &model,
                                   const Body &body);
    bool take_back(dynamo_stream_t *engine_handle);
    void end_engine_call();
    void release_engine();
    void dismiss_if_due(std::unique_lock<std::mutex> &lock);  // unlocks where it dismisses

    std::shared_ptr<Queue> queue_;  // set before it is sent, as the callback is
    void *queue_user_ = nullptr;
    dynamo_request_t *handle_ = nullptr;
    Stream stream_{*this};
    std::atomic<bool> abandoned_{false};

    const std::string id_;
    Body body_;  // without its text, which may be long, once the engine has it

    mutable std::mutex mutex_;  // guards what follows; never held while foreign code runs
    Phase phase_ = Phase::created;
    bool is_accepted_ = false;                   // roll_back() cannot happen any more
    std::unique_ptr<const Error> send_failure_;  // of the last attempt
    // What happens while the engine may still refuse; accept() makes it count, roll_back() drops it.
    struct Trial {
        bool became_writable = false;               // the engine was not notified
        std::optional<EngineEnd> engine_end;        // how the engine ended the stream
        std::optional<std::int32_t> caller_status;  // the caller's side ended it, with this status
    };
    Trial trial_;
    std::shared_ptr<Runtime> runtime_;
    Model *model_ = nullptr;                    // of the runtime
    std::shared_ptr<Runtime> next_runtime_;     // where the request was passed on to
    Model *next_model_ = nullptr;               // of that runtime
    dynamo_stream_t *engine_handle_ = nullptr;  // nullptr once the engine released it
    int engine_calls_ = 0;
    bool dismissal_is_due_ = false;
    Deadlines deadlines_;
    struct ErrorTexts {
        std::string message;
        std::string json;
    };
    std::unique_ptr<const ErrorTexts> error_texts_;  // written once: callers hold pointers to them

    dynamo_response_callback_t callback_ = nullptr;
    void *callback_user_ = nullptr;
    dynamo_release_callback_t callback_release_ = nullptr;
    dynamo_ready_callback_t ready_callback_ = nullptr;  // until it is called
    void *ready_user_ = nullptr;
    std::atomic<bool> callback_done_{false};
    bool end_was_called_ = false;  // used by the dispatcher's thread only
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
