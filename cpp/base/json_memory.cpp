// SPDX-License-Identifier: Apache-2.0
#include "base/json_memory.hpp"

#include <functional>
#include <mutex>

namespace dynamo::json::reserve {
namespace {

alignas(std::max_align_t) unsigned char memory[size];
std::mutex mutex;
std::size_t used = 0;
std::size_t blocks_in_use = 0;  // the reserve is reset when this drops to 0

}  // namespace

void *allocate(std::size_t bytes) noexcept {
    const std::size_t rounded = (bytes + alignof(std::max_align_t) - 1) /
                                alignof(std::max_align_t) * alignof(std::max_align_t);
    const std::lock_guard lock(mutex);
    if (rounded < bytes || rounded > size - used) {
        return nullptr;
    }
    void *const block = memory + used;
    used += rounded;
    ++blocks_in_use;
    return block;
}

bool deallocate(void *block) noexcept {
    const std::less<> before;
    if (before(block, static_cast<void *>(memory)) ||
        !before(block, static_cast<void *>(memory + size))) {
        return false;
    }
    const std::lock_guard lock(mutex);
    if (--blocks_in_use == 0) {
        used = 0;
    }
    return true;
}

}  // namespace dynamo::json::reserve
