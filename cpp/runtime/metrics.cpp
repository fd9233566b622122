// SPDX-License-Identifier: Apache-2.0
#include "runtime/metrics.hpp"

#include <algorithm>
#include <cstring>

#include "base/decimal.hpp"
#include "base/error.hpp"

namespace dynamo::metrics {
namespace {

constexpr int digits = 9;  // significant digits of seconds

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

// Returns "ok", or the enumerator's name without its prefix: "cancelled", "deadline_exceeded".
std::string label_of(int status) {
    if (status == 0) {
        return "ok";
    }
    std::string name = status_name(-status);
    constexpr const char *prefix = "DYNAMO_ERROR_";
    if (name.rfind(prefix, 0) == 0) {
        name.erase(0, std::strlen(prefix));
    }
    // Not tolower(), which depends on the host's locale.
    std::transform(name.begin(), name.end(), name.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return name;
}

void head(std::string &out, const char *name, const char *type, const char *help) {
    out += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

void sample(std::string &out, const std::string &name, const std::string &labels,
            std::uint64_t value) {
    out += name + "{" + labels + "} " + std::to_string(value) + "\n";
}

void write_histogram(std::string &out, const char *name, const std::string &labels,
                     const Histogram &histogram) {
    const std::string bucket = std::string(name) + "_bucket";
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i <= Histogram::bounds.size(); ++i) {
        sum += histogram.count(i);
        const std::string bound =
            i == Histogram::bounds.size() ? "+Inf" : decimal::print(Histogram::bounds[i], digits);
        sample(out, bucket, labels + ",le=\"" + bound + "\"", sum);
    }
    out += std::string(name) + "_sum{" + labels + "} " +
           decimal::print(static_cast<double>(histogram.nanoseconds()) * 1e-9, digits) + "\n";
    sample(out, std::string(name) + "_count", labels, sum);
}

}  // namespace

std::string write(const std::vector<Source> &sources) {
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
    const auto counter = [&](const char *name, const char *help, auto member) {
        family(name, "counter", help,
               [member](const Source &source) { return (source.counters->*member).load(); });
    };
    const auto histogram = [&](const char *name, const char *help, auto member) {
        head(out, name, "histogram", help);
        for (const Source &source : sources) {
            write_histogram(out, name, labels(source), source.counters->*member);
        }
    };

    head(out, "dynamo_llm_requests_total", "counter",
         "Requests that ended or were refused, by status.");
    for (const Source &source : sources) {
        for (int status = 0; status < Counters::statuses; ++status) {
            const auto count = source.counters->requests[static_cast<std::size_t>(status)].load();
            if (count > 0 || status == 0) {
                sample(out, "dynamo_llm_requests_total",
                       labels(source) + ",status=\"" + label_of(status) + "\"", count);
            }
        }
    }
    family("dynamo_llm_requests_in_flight", "gauge", "Requests in the engine.",
           [](const Source &source) { return source.in_flight; });
    family("dynamo_llm_requests_queued", "gauge", "Queued requests.",
           [](const Source &source) { return source.queued; });
    counter("dynamo_llm_prompt_tokens_total", "Prompt tokens, as counted by the engine.",
            &Counters::prompt_tokens);
    counter("dynamo_llm_cached_tokens_total", "Prompt tokens served from a prefix cache.",
            &Counters::cached_tokens);
    counter("dynamo_llm_completion_tokens_total", "Completion tokens.",
            &Counters::completion_tokens);
    counter("dynamo_llm_streams_full_total", "Pushes that found the stream full.", &Counters::full);
    histogram("dynamo_llm_queue_seconds", "Time from sending a request until the engine starts it.",
              &Counters::queue);
    histogram("dynamo_llm_time_to_first_token_seconds",
              "Time from sending a request until the engine pushes its first token (TTFT).",
              &Counters::first_token);
    histogram("dynamo_llm_inter_token_seconds",
              "Time between tokens of one request (ITL); tokens of one push share its time.",
              &Counters::inter_token);
    histogram("dynamo_llm_request_seconds", "Time from sending a request until its end.",
              &Counters::total);
    return out;
}

}  // namespace dynamo::metrics
