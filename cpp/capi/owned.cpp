// SPDX-License-Identifier: Apache-2.0
#include "capi/owned.hpp"

#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace dynamo::capi::owned {
namespace {

// All blocks that callers own. Looking them up turns a foreign pointer or a double free into an error instead of a
// crash. new[] aligns the memory for any type.
struct Outstanding {
    std::mutex mutex;
    std::unordered_map<void *, std::unique_ptr<char[]>> blocks;
};

Outstanding &outstanding() {
    static Outstanding *const instance = new Outstanding;  // leaked: used while the process exits
    return *instance;
}

void *copy_of(const void *bytes, std::size_t size) {
    void *const copy = block(size);
    std::memcpy(copy, bytes, size);
    return copy;
}

template <class Number>
Number *numbers_of(std::span<const Number> array) {
    return array.empty() ? nullptr
                         : static_cast<Number *>(copy_of(array.data(), array.size_bytes()));
}

}  // namespace

char *text(const std::string &text) {
    return static_cast<char *>(copy_of(text.c_str(), text.size() + 1));
}

std::uint32_t *numbers(std::span<const std::uint32_t> array) {
    return numbers_of(array);
}

std::uint64_t *numbers(std::span<const std::uint64_t> array) {
    return numbers_of(array);
}

void *block(std::size_t size) {
    std::unique_ptr<char[]> made(new char[size]());
    void *const pointer = made.get();
    const std::lock_guard lock(outstanding().mutex);
    outstanding().blocks.emplace(pointer, std::move(made));
    return pointer;
}

bool free(void *pointer) noexcept {
    const std::lock_guard lock(outstanding().mutex);
    return outstanding().blocks.erase(pointer) == 1;
}

}  // namespace dynamo::capi::owned
