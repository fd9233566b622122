// SPDX-License-Identifier: Apache-2.0
// Token ids of a response; the first few are stored inline.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace dynamo {

class TokenIds {
  public:
    TokenIds() noexcept {}  // not "= default": that would zero the array
    TokenIds(const TokenIds &) = delete;
    TokenIds &operator=(const TokenIds &) = delete;

    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }
    const std::uint32_t *data() const noexcept { return heap_ == nullptr ? inline_ : heap_.get(); }

    // Throws std::bad_alloc, and then changes nothing.
    void append(const std::uint32_t *ids, std::size_t count) {
        if (count > capacity_ - size_) {
            grow(count);
        }
        std::uint32_t *const end = (heap_ == nullptr ? inline_ : heap_.get()) + size_;
        if (count == 1) {
            *end = *ids;
        } else {
            std::memcpy(end, ids, count * sizeof *ids);
        }
        size_ += count;
    }

    std::vector<std::uint32_t> to_vector() const { return {data(), data() + size_}; }

  private:
    static constexpr std::size_t inline_ids = 16;

    void grow(std::size_t count) {
        const std::size_t capacity = std::max(2 * capacity_, size_ + count);
        std::unique_ptr<std::uint32_t[]> larger(new std::uint32_t[capacity]);
        std::memcpy(larger.get(), data(), size_ * sizeof(std::uint32_t));
        heap_ = std::move(larger);
        capacity_ = capacity;
    }

    std::size_t size_ = 0;
    std::size_t capacity_ = inline_ids;
    std::unique_ptr<std::uint32_t[]> heap_;
    std::uint32_t inline_[inline_ids];
};

}  // namespace dynamo
