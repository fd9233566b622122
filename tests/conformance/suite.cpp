// SPDX-License-Identifier: Apache-2.0
#include "suite.hpp"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "js.hpp"

void expect(bool condition, const std::string &what) {
    if (!condition) {
        throw Failed(what);
    }
}

void expect_status(std::int32_t status, std::int32_t expected, const std::string &what) {
    expect(status == expected, what + " gave " + dynamo_status_name(status) + ", not " +
                                   dynamo_status_name(expected) + " (" + dynamo_last_error() + ")");
}

void expect_text(const std::string &text, const std::string &expected, const std::string &what) {
    expect(text == expected, what + " is \"" + text + "\", not \"" + expected + "\"");
}

void expect_same(const Answer &answer, const Answer &whole) {
    expect(answer.choices.size() == whole.choices.size(), "the answer has not all choices");
    for (const auto &[index, choice] : whole.choices) {
        const auto found = answer.choices.find(index);
        expect(found != answer.choices.end(), "a choice has another number");
        expect_text(found->second.text, choice.text, "the text");
        expect_text(found->second.finish_reason, choice.finish_reason, "the finish reason");
        expect(found->second.token_ids == choice.token_ids, "the token ids differ");
    }
}

void expect_part(const Answer &part, const Answer &whole) {
    const std::string &text = part.text();
    const auto &ids = part.token_ids();
    const auto &all_ids = whole.token_ids();
    expect(whole.text().compare(0, text.size(), text) == 0,
           "what came before is \"" + text + "\", no beginning of \"" + whole.text() + "\"");
    expect(ids.size() <= all_ids.size() && std::equal(ids.begin(), ids.end(), all_ids.begin()),
           "the token ids that came before are no beginning of all");
    expect(text.size() < whole.text().size() || ids.size() < all_ids.size(),
           "the whole answer came all the same");
}

void wait_until(const std::function<bool()> &condition) {
    while (!condition()) {
        usleep(500);
    }
}

Subject::Subject(const Profile &of, const std::string &changes)
    : profile(of), runtime(of.config(changes)) {}

long long Subject::count(const std::string &pointer) const {
    return js::number_at(runtime.statistics(), pointer);
}

long long Subject::metric(const std::string &name, const std::string &label) const {
    std::istringstream lines(runtime.metrics());
    long long sum = 0;
    bool is_there = false;
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind(name + "{", 0) == 0) {
            is_there = true;
            const bool counts = line.find(label) != line.npos;
            sum += counts ? std::stoll(line.substr(line.rfind(' ') + 1)) : 0;
        }
    }
    expect(is_there, "there is no metric " + name);
    return sum;
}

void Subject::settle() const {
    wait_until([this] { return count("/requests/in_flight") == 0; });
    const std::string counters = runtime.statistics();
    const auto requests = [&](const char *key) {
        return js::number_at(counters, std::string("/requests/") + key);
    };
    expect(requests("queued") == 0,
           "something is queued, though nothing is in flight: " + counters);
    expect(requests("sent") == requests("ended") + requests("cancelled") + requests("failed"),
           "the statistics do not add up: " + counters);
    expect(js::number_at(counters, "/tokens/pushed") >= js::number_at(counters, "/tokens/received"),
           "more tokens were received than pushed: " + counters);
    const auto ends = [&](const char *status) {
        return metric("dynamo_llm_requests_total", std::string("status=\"") + status + "\"");
    };
    expect(ends("ok") == requests("ended") && ends("cancelled") == requests("cancelled") &&
               metric("dynamo_llm_request_seconds_count", "") == requests("sent"),
           "statistics and metrics differ: " + counters + "\n" + std::string(runtime.metrics()));
    expect(metric("dynamo_llm_requests_in_flight", "") == 0 &&
               metric("dynamo_llm_requests_queued", "") == 0,
           "the metrics say that something is in flight, or queued");
    expect(metric("dynamo_llm_streams_full_total", "") == js::number_at(counters, "/streams/full"),
           "statistics and metrics differ in how often a stream was full: " + counters);
}

const Answer &Subject::whole(const std::string &body) {
    auto found = wholes_.find(body);
    if (found == wholes_.end()) {
        const auto reader = sent(Mode::recv, js::with(body, "stream", "false"));
        const Answer &answer = reader->collect();
        expect_status(answer.status, DYNAMO_END, "the whole answer to " + body);
        expect(answer.responses == 1 || answer.choices.size() > 1,
               "a whole answer came in " + std::to_string(answer.responses) + " responses");
        found = wholes_.emplace(body, answer).first;
    }
    return found->second;
}

std::unique_ptr<Reader> Subject::sent(Mode mode, const std::string &body, bool is_held) const {
    auto reader = Reader::make(mode, body, is_held);
    reader->send(runtime);
    return reader;
}

std::vector<std::unique_ptr<Reader>> Subject::keep_busy() const {
    const int count = std::stoi(profile.get("busy"));
    std::vector<std::unique_ptr<Reader>> busy;
    for (int i = 0; i < count; ++i) {
        busy.push_back(sent(Mode::recv, profile.very_long()));
    }
    for (const auto &one : busy) {  // each has started, so it has a slot
        expect(one->next(), "a request that keeps the engine busy ended");
    }
    return busy;
}
