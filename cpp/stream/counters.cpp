// SPDX-License-Identifier: Apache-2.0
#include "stream/counters.hpp"

#include <algorithm>

namespace dynamo {

void Histogram::observe(Clock::duration duration, std::uint64_t times) noexcept {
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
    const double seconds = static_cast<double>(nanoseconds) * 1e-9;
    const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), seconds) - bounds.begin();
    counts_[static_cast<std::size_t>(bucket)].fetch_add(times, std::memory_order_relaxed);
    nanoseconds_.fetch_add(static_cast<std::uint64_t>(nanoseconds) * times,
                           std::memory_order_relaxed);
}

void Counters::count(std::int32_t status) noexcept {
    const int index = status > 0 ? 0 : std::min(-status, statuses - 1);
    requests[static_cast<std::size_t>(index)].fetch_add(1, std::memory_order_relaxed);
}

void Counters::count_end(std::int32_t status, const Timing &timing) noexcept {
    count(status);
    total.observe(std::chrono::microseconds(std::max<std::int64_t>(0, timing.total_us)));
}

void Counters::count_usage(const Usage &usage, std::uint64_t pushed) noexcept {
    if (usage.completion_tokens > pushed) {
        count_tokens(usage.completion_tokens - pushed);
    }
    prompt_tokens.fetch_add(usage.prompt_tokens, std::memory_order_relaxed);
    cached_tokens.fetch_add(usage.cached_tokens, std::memory_order_relaxed);
}

}  // namespace dynamo
