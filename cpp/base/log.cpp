// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/callback.hpp"
#include "base/utf8.hpp"

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

// Decodes a code point of up to three bytes. Longer ones are all printable, so any printable value stands for them.
std::uint32_t decode(std::string_view bytes) noexcept {
    const auto at = [&](std::size_t i) {
        return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]));
    };
    switch (bytes.size()) {
        case 1:
            return at(0);
        case 2:
            return ((at(0) & 0x1F) << 6) | (at(1) & 0x3F);
        case 3:
            return ((at(0) & 0x0F) << 12) | ((at(1) & 0x3F) << 6) | (at(2) & 0x3F);
        default:
            return 0xFFFD;
    }
}

bool is_plain(std::uint32_t value) noexcept {
    const bool is_control = (value < 0x20 && value != '\t') || (value >= 0x7F && value < 0xA0);
    const bool is_separator = value == 0x2028 || value == 0x2029;
    const bool is_bidirectional = value == 0x061C || value == 0x200E || value == 0x200F ||
                                  (value >= 0x202A && value <= 0x202E) ||
                                  (value >= 0x2066 && value <= 0x2069);
    return !is_control && !is_separator && !is_bidirectional;
}

void append_hex(std::string &out, const char *prefix, std::uint32_t value, int digits) {
    out += prefix;
    for (int i = digits - 1; i >= 0; --i) {
        out += "0123456789abcdef"[(value >> (4 * i)) & 0xF];
    }
}

// Returns untrusted text as one line without control sequences. Escapes C0 controls except the tab, DEL, C1 controls, the
// separators U+2028 and U+2029, bidirectional controls ("\n", "\x1b", "\u009b"), and bytes that are not UTF-8 ("\xff").
// Everything else is unchanged.
std::string one_line(std::string_view text) {
    std::string line;
    line.reserve(text.size());
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) {
            append_hex(line, "\\x", static_cast<unsigned char>(text.front()), 2);
            text.remove_prefix(1);
            continue;
        }
        const std::uint32_t value = decode(text.substr(0, length));
        if (is_plain(value)) {
            line.append(text, 0, length);
        } else if (value == '\n' || value == '\r') {
            line += value == '\n' ? "\\n" : "\\r";
        } else if (value < 0x80) {
            append_hex(line, "\\x", value, 2);
        } else {
            append_hex(line, "\\u", value, 4);
        }
        text.remove_prefix(length);
    }
    return line;
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
