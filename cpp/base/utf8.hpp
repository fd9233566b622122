// SPDX-License-Identifier: Apache-2.0
// Reassembles UTF-8 code points split across chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/text.hpp"

namespace dynamo {

class Utf8Joiner {
  public:
    // Appends the complete code points, and keeps back at most three bytes of an incomplete one. Each maximal invalid
    // part becomes U+FFFD (Unicode, section 3.9, "substitution of maximal subparts", as in Python and the WHATWG
    // decoder).
    void append(Text &out, std::string_view bytes) {
        if (tail_size_ == 0 && is_ascii(bytes)) {
            out.append(bytes);
        } else {
            append_any(out, bytes);
        }
    }

    // Appends U+FFFD for an incomplete code point at the end of a stream.
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

// The sequence at the front of some bytes, according to table 3-7 of the Unicode standard.
struct Utf8Front {
    enum Verdict { complete, partial, invalid };
    Verdict verdict;
    std::size_t length;  // in bytes; of an invalid one that of its maximal invalid part
};

// Requires non-empty bytes.
Utf8Front utf8_front(std::string_view bytes) noexcept;

// Returns bytes as valid UTF-8, for messages that quote untrusted text.
std::string as_utf8(std::string_view bytes);

// Returns the length of the code point at the front of non-empty bytes; 0 if it is not valid.
std::size_t utf8_length(std::string_view bytes) noexcept;

// Returns the position of the first invalid byte; npos if all are valid.
std::size_t invalid_utf8_at(std::string_view bytes) noexcept;

}  // namespace dynamo
