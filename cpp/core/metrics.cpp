// SPDX-License-Identifier: Apache-2.0
#include "core/metrics.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>

#include "core/error.hpp"

namespace dynamo {
namespace {

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", value);
    // The host may have a locale with another point.
    std::replace(text, text + std::strlen(text), ',', '.');
    return text;
}

std::string escaped(const std::string &label) {
    std::string result;
    for (const char c : label) {
        if (c == '\\' || c == '"') {
            result += '\\';
        }
        result += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    return result;
}

// "ok", "cancelled", "deadline_exceeded": the enumerator's name without its prefix.
std::string label_of(int status) {
    if (status == 0) {
        return "ok";
    }
    std::string name = status_name(-status);
    constexpr const char *prefix = "DYNAMO_ERROR_";
    if (name.rfind(prefix, 0) == 0) {
        name.erase(0, std::strlen(prefix));
    }
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return name;
}

void head(std::string &out, const char *name, const char *type, const char *help) {
    out += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

void sample(std::string &out, const std::string &name, const std::string &labels,
            std::uint64_t value) {
    out += name + "{" + labels + "} " + std::to_string(value) + "\n";
}

}  // namespace

void Histogram::observe(Clock::duration duration, std::uint64_t times) noexcept {
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
    const double seconds = static_cast<double>(nanoseconds) * 1e-9;
    const auto place = std::lower_bound(bounds.begin(), bounds.end(), seconds) - bounds.begin();
    counts_[static_cast<std::size_t>(place)].fetch_add(times, std::memory_order_relaxed);
    nanoseconds_.fetch_add(static_cast<std::uint64_t>(nanoseconds) * times,
                           std::memory_order_relaxed);
}

void Histogram::write(std::string &out, const char *name, const std::string &labels) const {
    const std::string bucket = std::string(name) + "_bucket";
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i <= bounds.size(); ++i) {
        sum += counts_[i].load(std::memory_order_relaxed);
        const std::string bound = i == bounds.size() ? "+Inf" : number(bounds[i]);
        sample(out, bucket, labels + ",le=\"" + bound + "\"", sum);
    }
    out += std::string(name) + "_sum{" + labels + "} " +
           number(static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) * 1e-9) + "\n";
    sample(out, std::string(name) + "_count", labels, sum);
}

void Metrics::count(std::int32_t status) noexcept {
    const int place = status > 0 ? 0 : std::min(-status, statuses - 1);
    requests_[static_cast<std::size_t>(place)].fetch_add(1, std::memory_order_relaxed);
}

void Metrics::count_end(std::int32_t status, const Timing &timing) noexcept {
    count(status);
    total_.observe(std::chrono::microseconds(std::max<std::int64_t>(0, timing.total_us)));
}

void Metrics::count_usage(const Usage &usage, std::uint64_t pushed) noexcept {
    if (usage.completion_tokens > pushed) {
        count_tokens(usage.completion_tokens - pushed);
    }
    prompt_tokens_.fetch_add(usage.prompt_tokens, std::memory_order_relaxed);
    cached_tokens_.fetch_add(usage.cached_tokens, std::memory_order_relaxed);
}

std::string Metrics::write(const std::vector<Source> &sources) {
    std::string out;
    const auto labels = [](const Source &source) {
        return "model=\"" + escaped(source.model) + "\",engine=\"" + escaped(source.engine) + "\"";
    };
    const auto family = [&](const char *name, const char *type, const char *help, auto &&value) {
        head(out, name, type, help);
        for (const Source &source : sources) {
            sample(out, name, labels(source), value(source));
        }
    };
    const auto histogram = [&](const char *name, const char *help, auto &&member) {
        head(out, name, "histogram", help);
        for (const Source &source : sources) {
            member(source).write(out, name, labels(source));
        }
    };

    head(out, "dynamo_llm_requests_total", "counter",
         "Requests that ended or were refused, by status.");
    for (const Source &source : sources) {
        for (int status = 0; status < statuses; ++status) {
            const auto count = source.metrics->requests_[static_cast<std::size_t>(status)].load();
            if (count > 0 || status == 0) {
                sample(out, "dynamo_llm_requests_total",
                       labels(source) + ",status=\"" + label_of(status) + "\"", count);
            }
        }
    }
    family("dynamo_llm_requests_in_flight", "gauge", "Requests that the engine works on.",
           [](const Source &source) { return source.in_flight; });
    family("dynamo_llm_requests_queued", "gauge", "Requests that wait for a place.",
           [](const Source &source) { return source.queued; });
    family("dynamo_llm_prompt_tokens_total", "counter",
           "Tokens of prompts, as the engine counted them.",
           [](const Source &source) { return source.metrics->prompt_tokens_.load(); });
    family("dynamo_llm_cached_tokens_total", "counter",
           "Tokens of prompts that came from a prefix cache.",
           [](const Source &source) { return source.metrics->cached_tokens_.load(); });
    family("dynamo_llm_completion_tokens_total", "counter", "Tokens of answers.",
           [](const Source &source) { return source.metrics->completion_tokens_.load(); });
    family("dynamo_llm_streams_full_total", "counter", "How often a stream was found full.",
           [](const Source &source) { return source.metrics->full_.load(); });
    histogram("dynamo_llm_queue_seconds", "From sending a request until the engine gets it.",
              [](const Source &source) -> const Histogram & { return source.metrics->queue; });
    histogram(
        "dynamo_llm_time_to_first_token_seconds",
        "From sending a request until the engine pushes something (TTFT).",
        [](const Source &source) -> const Histogram & { return source.metrics->first_token; });
    histogram(
        "dynamo_llm_inter_token_seconds",
        "Between tokens of one request (ITL); those of one push share its time.",
        [](const Source &source) -> const Histogram & { return source.metrics->inter_token; });
    histogram("dynamo_llm_request_seconds", "From sending a request until its end.",
              [](const Source &source) -> const Histogram & { return source.metrics->total_; });
    return out;
}

}  // namespace dynamo
