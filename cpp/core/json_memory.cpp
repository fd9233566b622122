// SPDX-License-Identifier: Apache-2.0
#include "core/json_memory.hpp"

#include <functional>
#include <mutex>

namespace dynamo::json::reserve {
namespace {

alignas(std::max_align_t) unsigned char memory[size];
std::mutex mutex;
std::size_t used = 0;
std::size_t taken = 0;  // how many have some; when nobody has, all is free again

}  // namespace

void *take(std::size_t bytes) noexcept {
    const std::size_t whole = (bytes + alignof(std::max_align_t) - 1) / alignof(std::max_align_t) *
                              alignof(std::max_align_t);
    const std::lock_guard lock(mutex);
    if (whole < bytes || whole > size - used) {
        return nullptr;
    }
    void *const place = memory + used;
    used += whole;
    ++taken;
    return place;
}

bool give_back(void *place) noexcept {
    const std::less<> before;
    if (before(place, static_cast<void *>(memory)) ||
        !before(place, static_cast<void *>(memory + size))) {
        return false;
    }
    const std::lock_guard lock(mutex);
    if (--taken == 0) {
        used = 0;
    }
    return true;
}

}  // namespace dynamo::json::reserve
