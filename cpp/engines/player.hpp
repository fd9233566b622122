// SPDX-License-Identifier: Apache-2.0
// Plays many answers on one thread. Each answer is a sequence of timed steps.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/error.hpp"
#include "dynamo_llm/engine.h"

namespace dynamo::engines {

using Clock = std::chrono::steady_clock;

// Produces one answer, chunk by chunk.
class Play {
  public:
    virtual ~Play() = default;

    // `done`: the step finished or failed the stream. `never`: only a cancel ends the stream.
    enum class Next { at, when_writable, never, done };
    struct Step {
        Next next;
        Clock::time_point when{};  // for Next::at
    };
    // Pushes the next chunks: a bounded number, so that one long answer does not delay the others.
    Step step(dynamo_stream_t *stream);

  private:
    // Returns what to do instead of a push, if it is not time for one.
    virtual std::optional<Step> before_push(dynamo_stream_t *stream) = 0;
    // Pushes one chunk. Returns the status of dynamo_stream_push().
    virtual std::int32_t push(dynamo_stream_t *stream) = 0;
    // Finishes the stream, because a push reported that the request was cancelled.
    virtual Step finish(dynamo_stream_t *stream) = 0;
};

class Player {
  public:
    // The thread shares ownership, so the caller may release the player right after stop(). Throws Failure
    // with SYSTEM.
    static std::shared_ptr<Player> create(const char *thread_name);

    void play(dynamo_stream_t *stream, std::unique_ptr<Play> play);
    void wake(dynamo_stream_t *stream);    // the stream is writable again
    void cancel(dynamo_stream_t *stream);  // finishes the stream
    void stop();                           // waits until the thread has left its loop

  private:
    using Due = std::multimap<Clock::time_point, dynamo_stream_t *>;

    struct Entry {
        std::unique_ptr<Play> play;
        // The node for due_ while unscheduled; allocated once, so that scheduling cannot fail.
        Due::node_type place;
        Due::iterator due;  // position in due_ while scheduled
        bool is_cancelled = false;
        bool is_writable = false;  // wake() was called before the step returned Next::when_writable
        bool is_scheduled = false;
    };

    void run();
    void schedule(Entry &entry, Clock::time_point when) noexcept;
    void unschedule(Entry &entry) noexcept;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::unordered_map<dynamo_stream_t *, std::shared_ptr<Entry>> entries_;
    Due due_;
    bool stopping_ = false;
    bool stopped_ = false;
};

// Returns the functions that all engines with a Player share; the rest are NULL. `Engine` has a member `player`.
template <class Engine>
dynamo_engine_t player_functions() {
    dynamo_engine_t functions{};
    functions.struct_size = sizeof functions;
    functions.kind = DYNAMO_ENGINE_TEXT;
    functions.cancel = [](void *instance, dynamo_stream_t *stream) {
        static_cast<Engine *>(instance)->player->cancel(stream);
    };
    functions.on_writable = [](void *instance, dynamo_stream_t *stream) {
        static_cast<Engine *>(instance)->player->wake(stream);
    };
    functions.stop = [](void *instance) {
        const std::unique_ptr<Engine> engine(static_cast<Engine *>(instance));
        engine->player->stop();
    };
    functions.describe = [](void *) -> const char * {
        return R"({"capabilities": ["chat", "completion"]})";
    };
    return functions;
}

// Runs the body of a callback, and reports an exception with dynamo_engine_error().
template <class Body>
std::int32_t guarded(Body &&body) noexcept {
    try {
        body();
        return DYNAMO_OK;
    } catch (const Failure &failure) {
        return dynamo_engine_error(failure.error().status, failure.what(), nullptr);
    } catch (const std::bad_alloc &) {
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "out of memory", nullptr);
    } catch (const std::exception &exception) {
        return dynamo_engine_error(DYNAMO_ERROR_INTERNAL, exception.what(), nullptr);
    }
}

}  // namespace dynamo::engines
