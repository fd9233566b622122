// SPDX-License-Identifier: Apache-2.0
#include "python/surrogates.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace dynamo::python {
namespace {

constexpr std::uint32_t replacement = 0xfffd;

bool is_high(std::uint32_t c) {
    return c >= 0xd800 && c < 0xdc00;
}

bool is_low(std::uint32_t c) {
    return c >= 0xdc00 && c < 0xe000;
}

std::uint32_t character_of(std::uint32_t high, std::uint32_t low) {
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

void append_utf8(std::string &out, std::uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c);
        return;
    }
    const int more = c < 0x800 ? 1 : (c < 0x10000 ? 2 : 3);
    constexpr std::uint32_t leads[] = {0, 0xc0, 0xe0, 0xf0};
    out += static_cast<char>(leads[more] | c >> (6 * more));
    for (int i = more - 1; i >= 0; --i) {
        out += static_cast<char>(0x80 | (c >> (6 * i) & 0x3f));
    }
}

struct Waiting {
    dynamo_stream_t *stream;
    std::uint32_t choice;
    std::uint32_t half;
};

// Rarely has more than a few entries. Never freed, like the module itself.
std::vector<Waiting> &waiting() {
    static auto *const all = new std::vector<Waiting>;
    return *all;
}

// The size of waiting(); a plain variable, because it is read for each token.
std::size_t waiting_count = 0;

// Returns the value of the four hexadecimal digits of "\uXXXX"; 0 if the text at `at` is not such an escape.
std::uint32_t escaped(const std::string &json, std::size_t at) {
    if (json.size() - at < 6 || json[at] != '\\' || json[at + 1] != 'u') {
        return 0;
    }
    std::uint32_t value = 0;
    for (std::size_t i = at + 2; i < at + 6; ++i) {
        const char c = json[i];
        value = value * 16 + static_cast<std::uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

}  // namespace

SplitText SplitText::of(PyObject *text) {
    SplitText split;
    Py_ssize_t begin = 0;
    Py_ssize_t end = PyUnicode_GET_LENGTH(text);
    const auto at = [&](Py_ssize_t i) { return PyUnicode_READ_CHAR(text, i); };
    if (end > 0 && is_low(at(0))) {
        split.low = at(begin++);
    }
    if (end > begin && is_high(at(end - 1))) {
        split.high = at(--end);
    }
    split.middle.reserve(static_cast<std::size_t>(end - begin));
    for (Py_ssize_t i = begin; i < end; ++i) {
        std::uint32_t c = at(i);
        if (is_high(c) && i + 1 < end && is_low(at(i + 1))) {
            c = character_of(c, at(++i));
        } else if (is_high(c) || is_low(c)) {
            c = replacement;
        }
        append_utf8(split.middle, c);
    }
    return split;
}

std::string SplitText::whole(PyObject *text) {
    SplitText split = of(text);
    std::string out;
    if (split.low != 0) {
        append_utf8(out, replacement);
    }
    out += split.middle;
    if (split.high != 0) {
        append_utf8(out, replacement);
    }
    return out;
}

std::string SplitText::after(std::uint32_t before) const {
    std::string out;
    if (low != 0 && before != 0) {
        append_utf8(out, character_of(before, low));
        out.erase(0, 2);  // the first two bytes were already pushed
    } else if (low != 0) {
        append_utf8(out, replacement);
    }
    out += middle;
    if (high != 0) {
        const std::size_t begin = out.size();
        append_utf8(out, character_of(high, 0xdc00));
        out.resize(begin + 2);
    }
    return out;
}

bool has_waiting_halves() noexcept {
    return waiting_count > 0;
}

std::uint32_t waiting_half(dynamo_stream_t *stream, std::uint32_t choice) noexcept {
    for (const Waiting &one : waiting()) {
        if (one.stream == stream && one.choice == choice) {
            return one.half;
        }
    }
    return 0;
}

void set_waiting_half(dynamo_stream_t *stream, std::uint32_t choice, std::uint32_t half) {
    std::vector<Waiting> &all = waiting();
    std::erase_if(all,
                  [&](const Waiting &one) { return one.stream == stream && one.choice == choice; });
    if (half != 0) {
        all.push_back({stream, choice, half});
    }
    waiting_count = all.size();
}

void forget_halves(dynamo_stream_t *stream) noexcept {
    if (waiting_count > 0) {
        std::erase_if(waiting(), [&](const Waiting &one) { return one.stream == stream; });
        waiting_count = waiting().size();
    }
}

void replace_single_halves(std::string &json) noexcept {
    for (std::size_t at = 0; (at = json.find('\\', at)) != std::string::npos;) {
        const std::uint32_t c = escaped(json, at);
        if (is_high(c) && is_low(escaped(json, at + 6))) {
            at += 12;
        } else if (is_high(c) || is_low(c)) {
            std::memcpy(json.data() + at, "\\ufffd", 6);
            at += 6;
        } else {
            at += 2;
        }
    }
}

}  // namespace dynamo::python
