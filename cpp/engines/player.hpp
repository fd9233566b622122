// SPDX-License-Identifier: Apache-2.0
// One thread that plays many answers, each a sequence of steps in time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

#include "core/error.hpp"
#include "dynamo_llm/engine.h"

namespace dynamo::engines {

using Clock = std::chrono::steady_clock;

// One answer.
class Play {
  public:
    virtual ~Play() = default;

    enum class Next { at, when_space, never, done };
    struct Step {
        Next next;
        Clock::time_point when{};  // for Next::at
    };
    // Pushes some of the answer. `done` means that it finished or failed the stream; `never`, that
    // only a cancel will end it.
    virtual Step step(dynamo_stream_t *stream) = 0;
};

class Player {
  public:
    // Its thread shares it, so that whoever stops it may drop it at once. Throws Failure with
    // SYSTEM.
    static std::shared_ptr<Player> create(const char *thread_name);

    void play(dynamo_stream_t *stream, std::unique_ptr<Play> play);
    void wake(dynamo_stream_t *stream);    // there is space
    void cancel(dynamo_stream_t *stream);  // finish it
    void stop();                           // waits for the thread

  private:
    using Due = std::multimap<Clock::time_point, dynamo_stream_t *>;

    struct Entry {
        std::unique_ptr<Play> play;
        Due::node_type
            place;  // its place in due_ while it is not there: made once, so that no step can fail
        Due::iterator due;  // where it is
        bool is_cancelled = false;
        bool has_space = false;  // space() came before the play asked for it
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

// The callbacks that every engine with a Player shares. `Engine` has a member `player`.
template <class Engine>
struct PlayerCallbacks {
    static void cancel(void *instance, dynamo_stream_t *stream) {
        static_cast<Engine *>(instance)->player->cancel(stream);
    }
    static void space(void *instance, dynamo_stream_t *stream) {
        static_cast<Engine *>(instance)->player->wake(stream);
    }
    static void stop(void *instance) {
        const std::unique_ptr<Engine> engine(static_cast<Engine *>(instance));
        engine->player->stop();
    }
};

// Runs the body of a callback; what it throws becomes dynamo_engine_error().
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
