// SPDX-License-Identifier: Apache-2.0
#include "stream/request_meter.hpp"

#include <utility>

namespace dynamo {
namespace {

constexpr Clock::time_point never{};

}  // namespace

void RequestMeter::on_sent(Counters &counters) noexcept {
    counters_ = &counters;
    // A request that was cancelled before it is sent has ended already.
    timestamps_ = {.sent = Clock::now(), .ended = timestamps_.ended};
}

void RequestMeter::on_attached(bool on_trial) noexcept {
    on_trial_ = on_trial;
    timestamps_.begun = Clock::now();
}

void RequestMeter::on_accepted() noexcept {
    if (!std::exchange(on_trial_, false)) {
        return;
    }
    counters_->count_full(times_full_);
    if (timestamps_.first_token != never) {
        count_queue_time(timestamps_.begun);
        counters_->first_token.observe(timestamps_.first_token - timestamps_.sent);
        counters_->count_tokens(std::exchange(first_tokens_, 0));
        if (const std::size_t rest = std::exchange(uncounted_tokens_, 0); rest > 0) {
            counters_->inter_token.observe(
                (timestamps_.last_token - timestamps_.first_token) / rest, rest);
            counters_->count_tokens(rest);
        }
    }
    if (timestamps_.ended != never) {
        count_queue_time(timestamps_.begun == never ? timestamps_.ended : timestamps_.begun);
    }
}

void RequestMeter::on_queued(bool is_queued) noexcept {
    if (timestamps_.first_token == never) {
        timestamps_.begun = is_queued ? never : Clock::now();
    }
}

// Called when the start of the work is final: at the first token, or at the end.
void RequestMeter::count_queue_time(Clock::time_point until) noexcept {
    if (!on_trial_ && counters_ != nullptr && !std::exchange(has_counted_queue_time_, true)) {
        counters_->queue.observe(until - timestamps_.sent);
    }
}

void RequestMeter::flush() noexcept {
    if (uncounted_tokens_ == 0) {
        return;
    }
    const Clock::time_point now = Clock::now();
    if (on_trial_) {
        timestamps_.last_token = now;
        if (timestamps_.first_token == never) {
            timestamps_.first_token = now;
            timestamps_.begun = timestamps_.begun == never ? now : timestamps_.begun;
            first_tokens_ = std::exchange(uncounted_tokens_, 0);
        }
        return;
    }
    const std::size_t tokens = std::exchange(uncounted_tokens_, 0);
    if (timestamps_.first_token == never) {
        timestamps_.first_token = now;
        if (timestamps_.begun == never) {
            timestamps_.begun = now;
        }
        count_queue_time(timestamps_.begun);
        counters_->first_token.observe(now - timestamps_.sent);
    } else {
        counters_->inter_token.observe((now - timestamps_.last_token) / tokens, tokens);
    }
    timestamps_.last_token = now;
    counters_->count_tokens(tokens);
}

void RequestMeter::on_full() noexcept {
    ++times_full_;
    if (!on_trial_) {
        counters_->count_full(1);
    }
}

void RequestMeter::on_ended() noexcept {
    flush();
    timestamps_.ended = Clock::now();
    if (timestamps_.sent != never) {
        // A request that ended in a queue was queued until now.
        count_queue_time(timestamps_.begun == never ? timestamps_.ended : timestamps_.begun);
    }
}

void RequestMeter::reset(bool reopens) noexcept {
    has_counted_queue_time_ = false;
    pushed_tokens_ = 0;
    usage_.reset();
    uncounted_tokens_ = 0;
    first_tokens_ = 0;
    times_full_ = 0;
    on_trial_ = false;
    timestamps_ = {.ended = reopens ? never : timestamps_.ended};
}

}  // namespace dynamo
