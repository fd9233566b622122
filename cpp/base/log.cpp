// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "base/callback.hpp"
#include "base/one_line.hpp"

namespace dynamo::log {
namespace {

// Reference-counted: a record that is being delivered keeps its callback, and `release` runs after the last one without
// anybody waiting.
struct Sink {
    std::int32_t level = DYNAMO_LOG_WARNING;
    dynamo_log_callback_t callback = nullptr;
    void *user = nullptr;
    dynamo_release_callback_t release = nullptr;
    ~Sink() {
        if (release != nullptr) {
            callback::call("release callback of dynamo_log_set_callback()",
                           [this] { release(user); });
        }
    }
};

// Without a sink, records go to stderr. Has no run-time constructor and no destructor: threads may log while the
// process exits, and without memory.
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

std::atomic<std::int32_t> min_level{DYNAMO_LOG_WARNING};
thread_local bool is_logging = false;

const char *level_name(std::int32_t level) {
    static constexpr const char *names[] = {"trace", "debug", "info", "warning", "error"};
    return level >= 0 && level < 5 ? names[level] : "log";
}

// Writes a record as one line to stderr. Names and messages come from engines, servers and files, which could otherwise
// forge records, or send control sequences to a terminal.
void print(std::int32_t level, const char *logger, const char *message) noexcept {
    try {
        const std::string line = std::string("dynamo_llm ") + level_name(level) + ": " +
                                 one_line(logger) + ": " + one_line(message) + "\n";
        std::fwrite(line.data(), 1, line.size(), stderr);
    } catch (...) {
        std::fprintf(stderr, "dynamo_llm %s: (no memory for the record)\n", level_name(level));
    }
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
        min_level.store(level, std::memory_order_relaxed);
    }
    // The old sink is destroyed here, outside the lock.
}

std::int32_t level() noexcept {
    return min_level.load(std::memory_order_relaxed);
}

void write(std::int32_t level, const char *logger, const char *message) {
    if (level < min_level.load(std::memory_order_relaxed) || level >= DYNAMO_LOG_OFF ||
        is_logging) {
        return;
    }
    std::shared_ptr<Sink> sink;
    {
        const std::lock_guard lock(state().mutex);
        sink = state().sink;
    }
    if (level < (sink == nullptr ? std::int32_t{DYNAMO_LOG_WARNING} : sink->level)) {
        return;  // the callback was replaced since min_level was read, without the lock
    }
    if (sink == nullptr || sink->callback == nullptr) {
        print(level, logger, message);
        return;
    }
    struct Logging {
        Logging() { is_logging = true; }
        ~Logging() { is_logging = false; }
    };
    const Logging logging;
    // An exception goes to stderr, and so does the record, which may have been lost.
    if (!callback::call("log callback",
                        [&] { sink->callback(sink->user, level, logger, message); })) {
        print(level, logger, message);
    }
}

void write_always(std::int32_t level, const char *logger, const char *message) {
    if (is_logging) {
        print(level, logger, message);
    } else {
        write(level, logger, message);
    }
}

}  // namespace dynamo::log
