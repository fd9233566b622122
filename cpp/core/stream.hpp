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
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/metrics.hpp"
#include "core/nap.hpp"
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
    virtual void on_ready() = 0;   // take() has something; as tell_owner() asked for
    virtual void on_urgent() = 0;  // after on_ready(): it is nearly full now
    virtual void on_space() = 0;   // a stream that was full has room again

  protected:
    ~StreamOwner() = default;
};

class Stream {
  public:
    // overflow: this very push claimed the end, because the policy is to fail.
    enum class Pushed { ok, full, closed, overflow };

    explicit Stream(StreamOwner &owner) : owner_(owner) {}
    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;
    ~Stream() { drop_responses(); }

    // Called before the engine sees the stream. The metrics live as long as the stream.
    void prepare(const StreamLimits &limits, HeldHead head, std::uint32_t choices,
                 Metrics &metrics);

    // The engine gets it now.
    void hand_over();

    // Back to before prepare(): the engine refused.
    void reset();

    // --- the engine's side ---
    // Throws Failure with INVALID_ARGUMENT.
    Pushed push(const dynamo_chunk_t &chunk) {
        return chunk.delta_json == nullptr && chunk.logprobs_json == nullptr &&
                       chunk.data == nullptr
                   ? push_all(chunk, nullptr)
                   : push_with_objects(chunk);
    }
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
    // As take(), without waiting, for owners that are told always. has_more: there is more to take
    // at once; if not, the owner is told again.
    std::int32_t take_next(std::shared_ptr<Response> &out, bool &has_more);
    int fd();
    // Always: each time that there is something again after take_next() said that there is no more.
    enum class Telling : std::uint8_t { never, once, always };
    void tell_owner(Telling telling);

    bool is_end_claimed() const;
    // Also has memory loaded that a push needs.
    bool is_end_claimed_before_push() const;
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

    // What a chunk has besides text and tokens.
    struct Objects;

    Pushed push_with_objects(const dynamo_chunk_t &chunk);
    Pushed push_all(const dynamo_chunk_t &chunk, Objects *objects);
    [[noreturn]] void reject_index(std::uint32_t index) const;
    Pushed refuse();
    void finish_choice(Choice &its_choice, Response &response, const char *reason);
    Response &open_response(std::uint32_t index, bool &is_new);
    Response &other_open_response(std::uint32_t index, bool &is_new);
    void drop_responses() noexcept;
    std::shared_ptr<Response> pop_response() noexcept;
    Choice &choice(std::uint32_t index);
    bool has_responses() const;
    bool is_readable() const;  // take() would not give PENDING
    bool is_full() const;
    bool is_urgent() const;  // worth to wake a reader from a nap
    bool wait_until_readable(std::unique_lock<std::mutex> &lock,
                             std::optional<Clock::time_point> until);
    struct Waits;
    Waits &waits();
    bool is_nearly_full() const;
    bool make_space() noexcept;
    void check_data(const dynamo_chunk_t &chunk) const;
    void count_tokens(std::size_t tokens, bool is_new_response);
    void count_uncounted() noexcept;
    void queue_finish(const char *reason, const std::optional<Usage> &usage);
    void publish(std::unique_lock<std::mutex> &lock);
    void announce(std::unique_lock<std::mutex> &lock);
    void tell(std::unique_lock<std::mutex> &lock);

    // In the order in which a push needs them: with thousands of streams, each line of the CPU's cache is
    // a wait for memory.
    mutable std::mutex mutex_;
    bool claimed_ = false;
    bool ended_ = false;  // published
    bool was_full_ = false;
    bool streams_ = true;     // the head's
    bool announced_ = false;  // the owner knows that there is something
    bool urged_ = false;      // and that it is urgent
    Telling telling_ = Telling::never;
    std::uint32_t choice_count_ = 1;
    Choice first_choice_;
    // A list through Response::next, which needs no memory of its own.
    std::shared_ptr<Response> first_response_;
    Response *last_response_ = nullptr;
    std::size_t queued_tokens_ = 0;
    std::size_t uncounted_tokens_ = 0;  // of pushed_tokens_: the metrics have not got them yet
    std::uint64_t pushed_tokens_ = 0;
    StreamLimits limits_;
    HeldHead head_;
    Metrics *metrics_ = nullptr;
    std::unique_ptr<platform::Notifier> notifier_;
    StreamOwner &owner_;
    int readers_waiting_ = 0;
    int readers_napping_ = 0;
    int writers_waiting_ = 0;
    Nap nap_;
    StreamClock clock_;
    // Where the last response was made, and the next one may be; it need not be there any more.
    const void *recent_place_ = nullptr;

    std::uint64_t times_full_ = 0;
    std::vector<Choice> more_choices_;
    std::int32_t end_status_ = DYNAMO_END;  // once it has ended
    std::unique_ptr<const Error> error_;    // nullptr if there is none, or no memory for it
    // Made by the first who waits: readers of a queue, or with a callback, never do.
    struct Waits {
        std::condition_variable readable;
        std::condition_variable writable;
    };
    std::unique_ptr<Waits> waits_;
};

}  // namespace dynamo
