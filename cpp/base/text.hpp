// SPDX-License-Identifier: Apache-2.0
// Text of a response, which ends with a NUL for C.
#pragma once

#include <cstddef>
#include <cstring>
#include <string_view>

#include "base/small_buffer.hpp"

namespace dynamo {

// memcpy() without a function call for the length of a typical token.
inline void copy_short(char *to, const char *from, std::size_t size) noexcept {
    if (size >= 4 && size <= 8) {
        char head[4];
        char tail[4];
        std::memcpy(head, from, 4);
        std::memcpy(tail, from + size - 4, 4);
        std::memcpy(to, head, 4);
        std::memcpy(to + size - 4, tail, 4);
    } else if (size > 0) {
        std::memcpy(to, from, size);
    }
}

class Text {
  public:
    Text() noexcept { *buffer_.reserve(1) = '\0'; }

    bool empty() const noexcept { return size() == 0; }
    std::size_t size() const noexcept { return buffer_.size(); }
    const char *c_str() const noexcept { return buffer_.data(); }
    std::string_view view() const noexcept { return {c_str(), size()}; }

    // Throws std::bad_alloc, and then changes nothing.
    void append(std::string_view bytes) {
        char *const end = buffer_.reserve(bytes.size() + 1);
        copy_short(end, bytes.data(), bytes.size());
        end[bytes.size()] = '\0';
        buffer_.extend(bytes.size());
    }

  private:
    SmallBuffer<char, 64> buffer_;  // with a NUL behind its end
};

}  // namespace dynamo
