// SPDX-License-Identifier: Apache-2.0
#include "runtime/deadlines.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "runtime/config.hpp"
#include "runtime/request.hpp"

namespace dynamo {

Deadlines::Deadlines(std::int64_t first_token_ms, std::int64_t total_ms)
    : first_token_ms_(first_token_ms), total_ms_(total_ms) {
    for (const std::int64_t value : {first_token_ms, total_ms}) {
        if (value < -1 || value == 0) {
            throw Failure(
                DYNAMO_ERROR_INVALID_ARGUMENT,
                "a deadline must be a positive number of milliseconds, or -1 for none, not " +
                    std::to_string(value));
        }
    }
}

void Deadlines::arm(const Limits &limits, Request &request) {
    const auto arm = [&](Kind kind, std::int64_t milliseconds) {
        return timer::at(*after_ms(milliseconds),
                         [weak = request.weak_from_this(), kind, milliseconds] {
                             if (const auto live = weak.lock()) {
                                 live->expire(kind, milliseconds);
                             }
                         });
    };
    const std::int64_t first_token_ms =
        first_token_ms_ > 0 ? first_token_ms_ : limits.first_token_ms;
    const std::int64_t total_ms = total_ms_ > 0 ? total_ms_ : limits.total_ms;
    if (first_token_ms > 0) {
        timers_[0] = arm(Kind::first_token, first_token_ms);
    }
    if (total_ms > 0) {
        timers_[1] = arm(Kind::total, total_ms);
        total_deadline_ = after_ms(total_ms);
    }
}

void Deadlines::disarm() noexcept {
    for (std::optional<timer::Id> &id : timers_) {
        if (id) {
            timer::cancel(*std::exchange(id, std::nullopt));
        }
    }
}

std::int64_t Deadlines::remaining_ms() const {
    if (!total_deadline_) {
        return -1;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(*total_deadline_ - Clock::now());
    return std::max<std::int64_t>(0, left.count());
}

}  // namespace dynamo
