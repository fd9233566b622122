// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>

namespace dynamo::log {
namespace {

// Counted, so that a record under way keeps its receiver: the release callback runs when the last
// one is done, and nobody ever waits.
struct Sink {
    std::int32_t level = DYNAMO_LOG_WARNING;
    dynamo_log_callback_t callback = nullptr;
    void *user = nullptr;
    dynamo_release_callback_t release = nullptr;
    ~Sink() {
        if (release != nullptr) {
            release(user);
        }
    }
};

// No sink is the default one. There are no constructor and no destructor at run time: threads may log while
// the process exits, and when there is no memory.
union State {
    struct {
        std::mutex mutex;
        std::shared_ptr<Sink> sink;
    } value;
    constexpr State() : value() {}
    ~State() {}
};

constinit State the_state;

auto &state() {
    return the_state.value;
}

std::atomic<std::int32_t> least{DYNAMO_LOG_WARNING};
thread_local bool is_logging = false;

const char *level_name(std::int32_t level) {
    static constexpr const char *names[] = {"trace", "debug", "info", "warning", "error"};
    return level >= 0 && level < 5 ? names[level] : "log";
}

}  // namespace

void set_callback(std::int32_t level, dynamo_log_callback_t callback, void *user,
                  dynamo_release_callback_t release) {
    auto sink = std::make_shared<Sink>();
    sink->level = level;
    sink->callback = callback;
    sink->user = user;
    sink->release = release;
    {
        const std::lock_guard lock(state().mutex);
        state().sink.swap(sink);
        least.store(level, std::memory_order_relaxed);
    }
    // The old sink goes here, outside the lock.
}

std::int32_t level() noexcept {
    return least.load(std::memory_order_relaxed);
}

void write(std::int32_t level, const char *logger, const char *message) noexcept {
    if (level < least.load(std::memory_order_relaxed) || level >= DYNAMO_LOG_OFF || is_logging) {
        return;
    }
    std::shared_ptr<Sink> sink;
    {
        const std::lock_guard lock(state().mutex);
        sink = state().sink;
    }
    if (level < (sink == nullptr ? std::int32_t{DYNAMO_LOG_WARNING} : sink->level)) {
        return;  // the callback was changed since `least` was looked at, which only saves the lock
    }
    is_logging = true;
    if (sink != nullptr && sink->callback != nullptr) {
        sink->callback(sink->user, level, logger, message);
    } else {
        std::fprintf(stderr, "dynamo_llm %s: %s: %s\n", level_name(level), logger, message);
    }
    sink.reset();
    is_logging = false;
}

}  // namespace dynamo::log
