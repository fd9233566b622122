// SPDX-License-Identifier: Apache-2.0
// The bounded queue between an engine and a caller: the heart of the library.
//
// The engine's side fills a Response that lies open at the end of the queue; the caller's side
// takes whole Responses. So a token costs an append, and a caller who is late gets everything at
// once. Both sides only ever hold the mutex for a few moves. Memory is taken when something comes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/metrics.hpp"
#include "core/platform.hpp"
#include "core/response.hpp"
#include "core/utf8.hpp"
#include "dynamo_llm/engine.h"

namespace dynamo {

// Milliseconds from now as a point in time; empty for -1, "for ever".
std::optional<Clock::time_point> after_ms(std::int64_t milliseconds);

struct StreamLimits {
    std::size_t capacity = 4096;  // tokens
    bool fail_when_full = false;
};

// What a stream tells the request that it is part of. Called without locks, from either side.
class StreamOwner {
  public:
    virtual void on_ready() = 0;  // take() has something; as tell_owner() asked for
    virtual void on_space() = 0;  // a stream that was full has room again

  protected:
    ~StreamOwner() = default;
};

class Stream {
  public:
    // overflow: this very push claimed the end, because the policy is to fail.
    enum class Pushed { ok, full, closed, overflow };

    explicit Stream(StreamOwner &owner) : owner_(owner) {}

    // Called before the engine sees the stream. The metrics live as long as the stream.
    void prepare(const StreamLimits &limits, std::shared_ptr<const ResponseHead> head,
                 std::uint32_t choices, Metrics &metrics);

    // The engine gets it now.
    void hand_over();

    // Back to before prepare(): the engine refused.
    void reset();

    // --- the engine's side ---
    Pushed push(const dynamo_chunk_t &chunk);  // throws Failure with INVALID_ARGUMENT
    // A stream ends in two steps, so that whoever sees the end finds everything about it done.
    // First somebody claims the end (true for one of them): nothing more is pushed from then on.
    // Then the same one publishes it: now the caller's side sees it.
    bool claim_end();
    void publish_finish(const char *reason, const std::optional<Usage> &usage);
    void publish_error(const Error &error);
    // True when there is room or the stream ended, false when the time is up.
    bool wait_for_space(std::optional<Clock::time_point> until);

    // --- the caller's side ---
    // DYNAMO_OK with a response, PENDING, END, or the status of the error that ended the stream.
    std::int32_t take(std::optional<Clock::time_point> until, std::shared_ptr<Response> &out);
    int fd();
    // Always: each time that there is something again after take() gave PENDING.
    enum class Telling { never, once, always };
    void tell_owner(Telling telling);

    bool is_end_claimed() const;
    Error overflow_error() const;
    bool has_pushed() const;
    Timing timing() const;
    std::optional<Error> error() const;
    std::int32_t status() const;  // PENDING, END or an error
    std::uint64_t pushed_tokens() const;
    std::uint64_t times_full() const;

  private:
    struct Choice {
        Utf8Joiner joiner;
        bool has_started = false;
        bool has_finished = false;  // its last response was queued
        std::string finish_reason;  // kept back until the end, where there is one choice only
    };

    Response &open_response(std::uint32_t index);
    Choice &choice(std::uint32_t index);
    bool has_responses() const;
    bool is_readable() const;  // take() would not give PENDING
    bool is_full() const;
    void check_data(const dynamo_chunk_t &chunk) const;
    void count_tokens(std::size_t tokens);
    void queue_finish(const char *reason, const std::optional<Usage> &usage);
    void publish(std::unique_lock<std::mutex> &lock);
    void announce(std::unique_lock<std::mutex> &lock);

    mutable std::mutex mutex_;
    std::condition_variable readable_;
    std::condition_variable writable_;
    int readers_waiting_ = 0;
    int writers_waiting_ = 0;

    StreamLimits limits_;
    std::shared_ptr<const ResponseHead> head_;
    Metrics *metrics_ = nullptr;
    StreamClock clock_;
    std::uint32_t choice_count_ = 1;
    Choice first_choice_;
    std::vector<Choice> more_choices_;

    std::unique_ptr<std::deque<std::shared_ptr<Response>>> queue_;  // an empty deque is not small
    std::size_t queued_tokens_ = 0;
    std::uint64_t pushed_tokens_ = 0;
    std::uint64_t times_full_ = 0;
    bool was_full_ = false;
    bool announced_ = false;

    bool claimed_ = false;
    bool ended_ = false;  // published
    std::optional<Error> error_;
    std::unique_ptr<platform::Notifier> notifier_;
    Telling telling_ = Telling::never;
    StreamOwner &owner_;
};

}  // namespace dynamo
