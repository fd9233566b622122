// SPDX-License-Identifier: Apache-2.0
// Text of a response, stored inline while it is short: most responses have a few bytes, and memory that one thread
// allocates and another one frees is expensive.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

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
    Text() noexcept { inline_[0] = '\0'; }  // the rest stays uninitialized
    Text(const Text &) = delete;
    Text &operator=(const Text &) = delete;

    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }
    const char *c_str() const noexcept { return heap_ == nullptr ? inline_ : heap_.get(); }
    std::string_view view() const noexcept { return {c_str(), size_}; }

    // Throws std::bad_alloc, and then changes nothing.
    void append(std::string_view bytes) {
        if (bytes.size() > capacity_ - size_) {
            grow(bytes.size());
        }
        char *const end = (heap_ == nullptr ? inline_ : heap_.get()) + size_;
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
        heap_ = std::move(larger);
        capacity_ = capacity;
    }

    std::size_t size_ = 0;
    std::size_t capacity_ = inline_bytes;
    std::unique_ptr<char[]> heap_;
    char inline_[inline_bytes + 1];
};

}  // namespace dynamo
