// SPDX-License-Identifier: Apache-2.0
// Text of a response: a short one needs no memory of its own.
//
// What the engine's thread allocates and the reader's thread frees costs both of them more than the few
// bytes that most responses have.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace dynamo {

// As memcpy(), which for the text of one token would be a call for a few bytes.
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
    Text() noexcept { few_[0] = '\0'; }  // the rest stays as it is
    Text(const Text &) = delete;
    Text &operator=(const Text &) = delete;

    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }
    // Ends with a zero byte.
    const char *c_str() const noexcept { return more_ == nullptr ? few_ : more_.get(); }
    std::string_view view() const noexcept { return {c_str(), size_}; }

    // Throws std::bad_alloc, with nothing changed.
    void append(std::string_view bytes) {
        if (bytes.size() > capacity_ - size_) {
            grow(bytes.size());
        }
        char *const end = (more_ == nullptr ? few_ : more_.get()) + size_;
        copy_short(end, bytes.data(), bytes.size());
        end[bytes.size()] = '\0';
        size_ += bytes.size();
    }

  private:
    static constexpr std::size_t inline_bytes = 63;

    void grow(std::size_t count) {
        const std::size_t capacity = std::max(2 * capacity_, size_ + count);
        std::unique_ptr<char[]> larger(new char[capacity + 1]);
        std::memcpy(larger.get(), c_str(), size_ + 1);
        more_ = std::move(larger);
        capacity_ = capacity;
    }

    std::size_t size_ = 0;
    std::size_t capacity_ = inline_bytes;
    std::unique_ptr<char[]> more_;
    char few_[inline_bytes + 1];
};

}  // namespace dynamo
