// SPDX-License-Identifier: Apache-2.0
#include "capi/owned_text.hpp"

#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace dynamo::capi::owned_text {
namespace {

// Remembered, so that a foreign pointer, or a second free, is an error and no crash.
struct Outstanding {
    std::mutex mutex;
    std::unordered_map<void *, std::unique_ptr<char[]>> texts;
};

Outstanding &outstanding() {
    static Outstanding *const instance = new Outstanding;  // leaked: used while the process exits
    return *instance;
}

}  // namespace

char *make(const std::string &text) {
    auto copy = std::make_unique<char[]>(text.size() + 1);
    std::memcpy(copy.get(), text.c_str(), text.size() + 1);
    char *const pointer = copy.get();
    const std::lock_guard lock(outstanding().mutex);
    outstanding().texts.emplace(pointer, std::move(copy));
    return pointer;
}

bool free(void *pointer) noexcept {
    const std::lock_guard lock(outstanding().mutex);
    return outstanding().texts.erase(pointer) == 1;
}

}  // namespace dynamo::capi::owned_text
