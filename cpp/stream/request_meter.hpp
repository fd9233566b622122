// SPDX-License-Identifier: Apache-2.0
// Measures one request: when it was sent, began, produced tokens and ended, and how many tokens it produced. The
// results go to the counters of its model. Guarded by the stream's mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "stream/counters.hpp"
#include "stream/timing.hpp"

namespace dynamo {

class RequestMeter {
  public:
    // The counters must outlive the meter.
    void on_sent(Counters &counters) noexcept;
    // The engine gets the request. on_trial: it may still refuse it, so nothing is counted before on_accepted().
    void on_attached(bool on_trial) noexcept;
    // Counts what happened on trial.
    void on_accepted() noexcept;
    // The engine queued the request internally, or dequeued it.
    void on_queued(bool is_queued) noexcept;

    // Reading the clock for each token would cost a fast engine more than the token. So tokens that arrive before
    // the reader took the earlier ones are counted together, up to max_batch. must_flush: count them now.
    void on_tokens(std::size_t tokens, bool must_flush) noexcept {
        pushed_tokens_ += tokens;
        uncounted_tokens_ += tokens;
        if (must_flush || uncounted_tokens_ >= max_batch ||
            timestamps_.first_token == Clock::time_point()) {
            flush();
        }
    }
    void on_full() noexcept;
    void on_usage(const Usage &usage) noexcept {
        usage_ = usage;
        counters_->count_usage(usage, pushed_tokens_);
    }
    void on_ended() noexcept;
    // Back to the state before on_sent(). The timestamp of the end stays unless `reopens`.
    void reset(bool reopens) noexcept;

    Timing timing() const { return timestamps_.timing(); }
    std::uint64_t pushed_tokens() const noexcept { return pushed_tokens_; }
    // What the engine reported; before that, the tokens that it pushed.
    Usage usage() const { return usage_.value_or(Usage{0, pushed_tokens_, 0}); }
    std::uint64_t times_full() const noexcept { return times_full_; }

  private:
    static constexpr std::size_t max_batch = 16;

    void flush() noexcept;
    void count_queue_time(Clock::time_point until) noexcept;

    std::size_t uncounted_tokens_ = 0;  // of pushed_tokens_: not yet counted
    std::uint64_t pushed_tokens_ = 0;
    Counters *counters_ = nullptr;
    bool on_trial_ = false;
    bool has_counted_queue_time_ = false;
    Timestamps timestamps_;
    std::optional<Usage> usage_;
    std::size_t first_tokens_ = 0;  // of the first push, while on trial
    std::uint64_t times_full_ = 0;
};

}  // namespace dynamo
