// SPDX-License-Identifier: Apache-2.0
// Simulates memory exhaustion: replaces operator new of the program and of the library linked into it. Include it in
// one file of a program only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace memory {

enum class Fails {
    once,      // one allocation
    for_ever,  // that one and all later ones
};

inline std::atomic<long> allocations{0};
inline std::atomic<long> failing{0};  // number of the allocation that fails; 0: none
inline std::atomic<bool> goes_on_failing{false};
inline std::atomic<long> failed{0};

// Makes the n-th allocation from now on fail, counted over all threads.
inline void arm(long n, Fails how) {
    goes_on_failing = how == Fails::for_ever;
    failed = 0;
    allocations = 0;
    failing = n;
}

// Lets all allocations succeed again. Returns how many have failed.
inline long disarm() {
    failing = 0;
    return failed;
}

inline void *allocate(std::size_t size, std::size_t alignment) noexcept {
    const long number = allocations.fetch_add(1) + 1;
    const long limit = failing;
    if (limit != 0 && (number == limit || (number > limit && goes_on_failing))) {
        failed.fetch_add(1);
        return nullptr;
    }
    if (alignment <= alignof(std::max_align_t)) {
        return std::malloc(size == 0 ? 1 : size);
    }
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

inline void *allocate_or_throw(std::size_t size, std::size_t alignment) {
    void *const result = allocate(size, alignment);
    if (result == nullptr) {
        throw std::bad_alloc();
    }
    return result;
}

}  // namespace memory

// Not inlined: GCC would see malloc() paired with delete, or new with free(), and warn.
[[gnu::noinline]] void *operator new(std::size_t size) {
    return memory::allocate_or_throw(size, 0);
}
[[gnu::noinline]] void *operator new[](std::size_t size) {
    return memory::allocate_or_throw(size, 0);
}
[[gnu::noinline]] void *operator new(std::size_t size, std::align_val_t alignment) {
    return memory::allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void *operator new[](std::size_t size, std::align_val_t alignment) {
    return memory::allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
    return memory::allocate(size, 0);
}
[[gnu::noinline]] void *operator new[](std::size_t size, const std::nothrow_t &) noexcept {
    return memory::allocate(size, 0);
}
[[gnu::noinline]] void operator delete(void *place) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete[](void *place) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete(void *place, std::size_t) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete[](void *place, std::size_t) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete(void *place, std::align_val_t) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete[](void *place, std::align_val_t) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete(void *place, std::size_t, std::align_val_t) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete[](void *place, std::size_t, std::align_val_t) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete(void *place, const std::nothrow_t &) noexcept {
    std::free(place);
}
[[gnu::noinline]] void operator delete[](void *place, const std::nothrow_t &) noexcept {
    std::free(place);
}
