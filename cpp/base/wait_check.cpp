// SPDX-License-Identifier: Apache-2.0
#include "base/wait_check.hpp"

#include <atomic>

#include "base/error.hpp"

namespace dynamo::wait_check {
namespace {

constinit std::atomic<Callback> the_callback{nullptr};

}  // namespace

void set_callback(Callback callback) noexcept {
    the_callback.store(callback, std::memory_order_release);
}

void require_allowed(const char *call, bool is_hosted) {
    const Callback callback = the_callback.load(std::memory_order_acquire);
    char reason[512];
    if (callback != nullptr && callback(call, is_hosted ? 1 : 0, reason, sizeof reason) != 0) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE, reason);
    }
}

bool is_allowed(bool is_hosted) noexcept {
    const Callback callback = the_callback.load(std::memory_order_acquire);
    char reason[1];
    return callback == nullptr || callback("", is_hosted ? 1 : 0, reason, sizeof reason) == 0;
}

}  // namespace dynamo::wait_check
