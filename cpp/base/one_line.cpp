// SPDX-License-Identifier: Apache-2.0
#include "base/one_line.hpp"

#include <cstdint>

#include "base/utf8.hpp"

namespace dynamo {
namespace {

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

}  // namespace

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

}  // namespace dynamo
