// SPDX-License-Identifier: Apache-2.0
// Puts code points together that an engine split over chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/text.hpp"

namespace dynamo {

class Utf8Joiner {
  public:
    // Appends the whole code points of what came so far; keeps back at most three bytes that may
    // become one. Each maximal part that can never be UTF-8 becomes U+FFFD (Unicode, section 3.9,
    // "substitution of maximal subparts", as in Python and the WHATWG decoder).
    void append(Text &out, std::string_view bytes) {
        if (tail_size_ == 0 && is_ascii(bytes)) {
            out.append(bytes);
        } else {
            append_any(out, bytes);
        }
    }

    // The stream ends: a code point that never got whole becomes U+FFFD.
    void flush(Text &out);

  private:
    static bool is_ascii(std::string_view bytes) noexcept {
        constexpr std::uint64_t high_bits = 0x8080808080808080u;
        std::uint64_t seen = 0;
        std::size_t i = 0;
        for (; i + 8 <= bytes.size(); i += 8) {
            std::uint64_t word;
            std::memcpy(&word, bytes.data() + i, 8);
            seen |= word;
        }
        for (; i < bytes.size(); ++i) {
            seen |= static_cast<unsigned char>(bytes[i]);
        }
        return (seen & high_bits) == 0;
    }

    void append_any(Text &out, std::string_view bytes);

    char tail_[3];
    std::uint8_t tail_size_ = 0;
};

// The same bytes as whole UTF-8, for messages that quote what somebody else wrote.
std::string as_utf8(std::string_view bytes);

// Where the first byte is that is no part of UTF-8; npos if all are.
std::size_t invalid_utf8_at(std::string_view bytes) noexcept;

}  // namespace dynamo
