// SPDX-License-Identifier: Apache-2.0
// A growing array that stores its first elements inline: most responses have a few bytes of text and a few token ids,
// and memory that one thread allocates and another one frees is expensive.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

namespace dynamo {

template <class T, std::size_t inline_count>
class SmallBuffer {
  public:
    SmallBuffer() noexcept {}  // not "= default": that would zero the array
    SmallBuffer(const SmallBuffer &) = delete;
    SmallBuffer &operator=(const SmallBuffer &) = delete;

    std::size_t size() const noexcept { return size_; }
    const T *data() const noexcept { return heap_ == nullptr ? inline_ : heap_.get(); }

    // Returns the end, where this many elements can be written. Throws std::bad_alloc, and then changes nothing.
    T *reserve(std::size_t count) {
        if (count > capacity_ - size_) {
            grow(count);
        }
        return (heap_ == nullptr ? inline_ : heap_.get()) + size_;
    }
    // Adds elements that were written at the end.
    void extend(std::size_t count) noexcept { size_ += count; }

  private:
    void grow(std::size_t count) {
        const std::size_t capacity = std::max(2 * capacity_, size_ + count);
        std::unique_ptr<T[]> larger(new T[capacity]);
        std::memcpy(larger.get(), data(), size_ * sizeof(T));
        heap_ = std::move(larger);
        capacity_ = capacity;
    }

    std::size_t size_ = 0;
    std::size_t capacity_ = inline_count;
    std::unique_ptr<T[]> heap_;
    T inline_[inline_count];
};

}  // namespace dynamo
