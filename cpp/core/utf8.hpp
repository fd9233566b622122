// SPDX-License-Identifier: Apache-2.0
// Puts code points together that an engine split over chunks.
#pragma once

#include <string>
#include <string_view>

namespace dynamo {

class Utf8Joiner {
  public:
    // Appends the whole code points of what came so far; keeps back at most three bytes that may
    // become one. Each maximal part that can never be UTF-8 becomes U+FFFD (Unicode, section 3.9,
    // "substitution of maximal subparts", as in Python and the WHATWG decoder).
    void append(std::string &out, std::string_view bytes);

    // The stream ends: a code point that never got whole becomes U+FFFD.
    void flush(std::string &out);

  private:
    std::string tail_;
};

// The same bytes as whole UTF-8, for messages that quote what somebody else wrote.
std::string as_utf8(std::string_view bytes);

// Where the first byte is that is no part of UTF-8; npos if all are.
std::size_t invalid_utf8_at(std::string_view bytes) noexcept;

}  // namespace dynamo
