// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/small_buffer.hpp"

namespace dynamo {

// Token ids of a response.
class TokenIds {
  public:
    bool empty() const noexcept { return size() == 0; }
    std::size_t size() const noexcept { return buffer_.size(); }
    const std::uint32_t *data() const noexcept { return buffer_.data(); }

    // Throws std::bad_alloc, and then changes nothing.
    void append(const std::uint32_t *ids, std::size_t count) {
        std::uint32_t *const end = buffer_.reserve(count);
        if (count == 1) {
            *end = *ids;
        } else {
            std::memcpy(end, ids, count * sizeof *ids);
        }
        buffer_.extend(count);
    }

    std::vector<std::uint32_t> to_vector() const { return {data(), data() + size()}; }

  private:
    SmallBuffer<std::uint32_t, 16> buffer_;
};

}  // namespace dynamo
