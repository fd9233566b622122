// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.hpp"

#include <cstdint>
#include <cstring>

namespace dynamo {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

std::size_t ascii_prefix(std::string_view bytes) {
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
        std::uint64_t word;
        std::memcpy(&word, bytes.data() + i, 8);
        if ((word & 0x8080808080808080u) != 0) {
            break;
        }
    }
    while (i < bytes.size() && static_cast<unsigned char>(bytes[i]) < 0x80) {
        ++i;
    }
    return i;
}

}  // namespace

Utf8Front utf8_front(std::string_view bytes) noexcept {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    using Verdict = Utf8Front::Verdict;
    const unsigned char lead = at(0);
    std::size_t length;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (lead < 0x80) {
        return {Verdict::complete, 1};
    } else if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        low = lead == 0xE0 ? 0xA0 : low;
        high = lead == 0xED ? 0x9F : high;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        low = lead == 0xF0 ? 0x90 : low;
        high = lead == 0xF4 ? 0x8F : high;
    } else {
        return {Verdict::invalid, 1};
    }
    for (std::size_t i = 1; i < length; ++i) {
        if (i == bytes.size()) {
            return {Verdict::partial, i};
        }
        if (at(i) < low || at(i) > high) {
            return {Verdict::invalid, i};
        }
        low = 0x80;
        high = 0xBF;
    }
    return {Verdict::complete, length};
}

void Utf8Joiner::append_any(Text &out, std::string_view bytes) {
    std::string joined;
    if (tail_size_ > 0) {
        joined.assign(tail_, tail_size_);
        joined.append(bytes);
        tail_size_ = 0;
        bytes = joined;
    }
    while (!bytes.empty()) {
        const std::size_t ascii = ascii_prefix(bytes);
        out.append(bytes.substr(0, ascii));
        bytes.remove_prefix(ascii);
        if (bytes.empty()) {
            return;
        }
        const Utf8Front sequence = utf8_front(bytes);
        if (sequence.verdict == Utf8Front::partial) {
            tail_size_ = static_cast<std::uint8_t>(bytes.copy(tail_, sizeof tail_));
            return;
        }
        out.append(sequence.verdict == Utf8Front::complete ? bytes.substr(0, sequence.length)
                                                           : replacement);
        bytes.remove_prefix(sequence.length);
    }
}

void Utf8Joiner::flush(Text &out) {
    if (tail_size_ > 0) {
        out.append(replacement);
        tail_size_ = 0;
    }
}

std::string as_utf8(std::string_view bytes) {
    Text text;
    Utf8Joiner joiner;
    joiner.append(text, bytes);
    joiner.flush(text);
    return std::string(text.view());
}

std::size_t utf8_length(std::string_view bytes) noexcept {
    const Utf8Front sequence = utf8_front(bytes);
    return sequence.verdict == Utf8Front::complete ? sequence.length : 0;
}

std::size_t invalid_utf8_at(std::string_view bytes) noexcept {
    std::size_t at = 0;
    while (true) {
        at += ascii_prefix(bytes.substr(at));
        if (at == bytes.size()) {
            return bytes.npos;
        }
        const Utf8Front sequence = utf8_front(bytes.substr(at));
        if (sequence.verdict != Utf8Front::complete) {
            return at;
        }
        at += sequence.length;
    }
}

}  // namespace dynamo
