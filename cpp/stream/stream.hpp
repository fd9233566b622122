// SPDX-License-Identifier: Apache-2.0
// The bounded queue between an engine and a caller.
//
// The engine's side appends to a Response that stays open at the end of the queue; the caller's side takes whole
// Responses. So a token costs an append, and a reader who is late gets everything in one response. Both sides hold
// the mutex for a few moves only. Memory is allocated when something is pushed.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/platform.hpp"
#include "base/shared_list.hpp"
#include "base/utf8.hpp"
#include "dynamo_llm/engine.h"
#include "stream/counters.hpp"
#include "stream/delta.hpp"
#include "stream/request_meter.hpp"
#include "stream/response.hpp"
#include "stream/response_events.hpp"
#include "stream/text_stage.hpp"
#include "stream/timed_poll.hpp"

namespace dynamo {

struct ChunkObjects;

// The point in time that many milliseconds from now; empty for -1, which means "no limit".
std::optional<Clock::time_point> after_ms(std::int64_t milliseconds);

struct StreamLimits {
    std::size_t capacity = 4096;  // tokens
    bool fail_when_full = false;
};

// Receives the events of a stream. Called without locks, from either side.
class StreamOwner {
  public:
    virtual void on_ready() = 0;     // take() has something, as notify_owner() requested
    virtual void on_urgent() = 0;    // after on_ready(): the stream is nearly full
    virtual void on_writable() = 0;  // a stream that was full has capacity again

  protected:
    ~StreamOwner() = default;
};

class Stream {
  public:
    // overflow: the stream is full and the policy is to fail; the owner must claim the end.
    // stale: this engine has released the stream, or refused the request.
    enum class PushResult { ok, full, closed, overflow, stale };

    explicit Stream(StreamOwner &owner) : owner_(owner) {}

    // Called before the engine sees the stream. The counters must outlive the stream.
    // is_hosted: the engine belongs to a host; see base/wait_check.hpp.
    void prepare(const StreamLimits &limits, ResponseHeadPtr head,
                 std::unique_ptr<ResponseEvents> events, std::uint32_t choices, Counters &counters,
                 bool is_hosted) noexcept;

    // From now on this engine may push. It counts as working on the request until set_queued() reports otherwise.
    // on_trial: the engine may still refuse; then reset() undoes everything, and nothing is counted before accept().
    void attach(const dynamo_stream_t *engine, bool on_trial);
    void accept();

    // Undoes everything since prepare(), because the engine refused. An end that the caller's side claimed stays,
    // unless `reopens`.
    void reset(bool reopens);

    // --- the engine's side: stream_writer.cpp ---
    // An engine that refused, or released the stream, may have another thread in any of these functions, so each of
    // them compares `engine` under the lock. Throws Failure with INVALID_ARGUMENT.
    PushResult push(const dynamo_stream_t *engine, const dynamo_chunk_t &chunk) {
        return chunk.delta_json == nullptr && chunk.logprobs_json == nullptr &&
                       chunk.data == nullptr
                   ? push_parsed(engine, chunk, nullptr)
                   : push_with_objects(engine, chunk);
    }
    // From now on this stage converts the tokens of a choice to text. See embed/bridge.h. Throws Failure with
    // INVALID_ARGUMENT.
    PushResult set_text_stage(const dynamo_stream_t *engine, std::uint32_t index,
                              std::unique_ptr<TextStage> stage, std::uint64_t prompt_tokens);
    // Returns ok, or stale.
    PushResult set_queued(const dynamo_stream_t *engine, bool is_queued);
    // This engine may no longer push.
    void detach(const dynamo_stream_t *engine);
    // A stream ends in two steps, so that everything about the end is done before anybody can see it. The first
    // caller claims the end (true for exactly one); nothing can be pushed afterwards. Then the same caller publishes
    // it to the caller's side.
    bool claim_end();
    void publish_finish(const char *reason, const std::optional<Usage> &usage);
    void publish_error(const Error &error);
    // Returns ok when there is capacity, closed, stale, or full at the timeout. Throws Failure with INVALID_STATE
    // where this thread must not wait.
    PushResult wait_until_writable(const dynamo_stream_t *engine,
                                   std::optional<Clock::time_point> until);

    // --- the caller's side: stream_reader.cpp ---
    // Returns DYNAMO_OK with a response, PENDING, END, or the status of the error that ended the stream. Throws
    // Failure with INVALID_STATE where this thread must not wait.
    std::int32_t take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out);
    // As take(), without waiting, for owners with Notify::always. has_more: more can be taken at once; if not, the
    // owner will be notified again.
    std::int32_t take_next(std::shared_ptr<Response> &out, bool &has_more);
    int fd();
    // always: whenever there is something again after take_next() reported that there is no more.
    enum class Notify : std::uint8_t { never, once, always };
    void notify_owner(Notify mode);

    bool is_end_claimed() const;
    // Returns ok, closed or stale. Also prefetches the memory that a push needs.
    PushResult state_before_push(const dynamo_stream_t *engine) const;
    std::string overflow_message() const;  // for an error with SLOW_CONSUMER
    bool has_pushed() const;
    Timing timing() const;
    Usage usage() const;
    std::optional<Error> error() const;
    std::int32_t status() const;  // PENDING, END or an error
    std::uint64_t pushed_tokens() const;
    std::uint64_t times_full() const;

  private:
    struct Choice {
        Utf8Joiner joiner;
        bool has_started = false;
        bool has_finished = false;  // its last response is queued
        bool has_delta = false;     // something other than text was pushed
        std::string finish_reason;  // of the choice that finishes last: kept back until the end
        std::unique_ptr<TextStage> stage;  // nullptr if the engine pushes text

        // Whether the stage has seen the end.
        bool is_complete() const noexcept {
            return stage != nullptr && (has_finished || !finish_reason.empty());
        }
    };

    PushResult push_with_objects(const dynamo_stream_t *engine, const dynamo_chunk_t &chunk);
    PushResult push_parsed(const dynamo_stream_t *engine, const dynamo_chunk_t &chunk,
                           ChunkObjects *objects);
    // The functions below require mutex_. publish() and notify*() unlock it.
    [[noreturn]] void reject_index(std::uint32_t index) const;
    PushResult push_after_finish(const dynamo_chunk_t &chunk, const ChunkObjects *objects) const;
    PushResult reject_full();
    void append(Choice &state, const dynamo_chunk_t &chunk, ChunkObjects *objects);
    PushResult push_converted(std::unique_lock<std::mutex> &lock, Choice &state,
                              const dynamo_chunk_t &chunk, ChunkObjects *objects);
    dynamo_chunk_t convert(Choice &state, const dynamo_chunk_t &chunk, ChunkObjects *objects);
    void finish_stage(Choice &state, Response &last, const char *reason);
    void finish_choice(Choice &state, Response &response, const char *reason);
    Response &open_response(std::uint32_t index, bool &is_new);
    Response &find_or_append_response(std::uint32_t index, bool &is_new);
    Response &append_response(std::uint32_t index);
    delta::ToolCalls &tool_calls(std::uint32_t index);
    void complete_choice(Choice &state, Response &last, const std::string &reason);
    void append_finish(const char *reason, const std::optional<Usage> &usage);
    void join_choices();
    void fail(const Error &error) noexcept;
    void drop_partial_answer() noexcept;
    Choice &choice(std::uint32_t index);
    bool wait_until_readable(std::unique_lock<std::mutex> &lock,
                             std::optional<Clock::time_point> until);
    void wake_writers() noexcept;
    bool update_writable() noexcept;
    void add_events();
    void publish(std::unique_lock<std::mutex> &lock);
    void notify(std::unique_lock<std::mutex> &lock);
    void notify_listeners(std::unique_lock<std::mutex> &lock);
    struct Conditions;
    Conditions &conditions();

    // Whether take() would return something. A response that holds only the start of a code point does not count.
    bool is_readable() const {
        return end_published_ ||
               (!responses_.is_empty() && is_streaming_ &&
                (responses_.first() != responses_.last() || !responses_.first()->is_empty()));
    }
    // An incomplete code point must be let in, since there is nothing to take before it is complete. A body that
    // does not stream is bounded by max_tokens only.
    bool is_full() const {
        return queued_tokens_ >= limits_.capacity && is_streaming_ && is_readable();
    }
    bool is_nearly_full() const {
        return queued_tokens_ >= limits_.capacity - limits_.capacity / 4;
    }
    // Worth waking a polling reader.
    bool is_urgent() const { return end_published_ || is_nearly_full(); }

    // In the order in which a push needs them: with thousands of streams, each cache line costs a wait for memory.
    mutable std::mutex mutex_;
    const dynamo_stream_t *engine_ = nullptr;  // the engine that may push; nullptr if none may
    bool end_claimed_ = false;
    bool end_published_ = false;
    bool was_full_ = false;
    bool is_streaming_ = true;  // as in the head
    bool owner_notified_ = false;
    bool owner_urged_ = false;
    Notify notify_ = Notify::never;
    bool is_hosted_ = false;
    std::uint32_t choice_count_ = 1;
    std::uint32_t finished_choices_ = 0;
    Choice first_choice_;
    SharedList<Response, &Response::next> responses_;
    std::size_t queued_tokens_ = 0;
    StreamLimits limits_;
    ResponseHeadPtr head_;
    std::unique_ptr<platform::Notifier> notifier_;
    StreamOwner &owner_;
    int readers_waiting_ = 0;
    int readers_polling_ = 0;
    int writers_waiting_ = 0;
    TimedPoll poll_;
    RequestMeter meter_;
    // The memory of the newest response, where the next one will probably be. May be freed: used for prefetching only.
    const void *recent_response_ = nullptr;

    std::vector<Choice> more_choices_;
    std::vector<delta::ToolCalls> tool_calls_;  // by choice; empty before the first one
    std::unique_ptr<Usage> counted_;            // of the choices with a stage; nullptr without one
    std::unique_ptr<ResponseEvents> events_;    // of a streamed answer of the kind `responses`
    std::int32_t end_status_ = DYNAMO_END;      // once the end is published
    std::unique_ptr<const Error> error_;  // nullptr without an error, or without memory for it
    // Created by the first thread that waits: readers of a queue, or with a callback, never do.
    struct Conditions {
        std::condition_variable readable;
        std::condition_variable writable;
    };
    std::unique_ptr<Conditions> conditions_;
};

}  // namespace dynamo
