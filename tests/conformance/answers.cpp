// SPDX-License-Identifier: Apache-2.0
// Cases: contents of an answer.
#include <numeric>

#include "js.hpp"
#include "suite.hpp"

namespace {

std::size_t tokens_of(const Answer &answer) {
    return std::accumulate(
        answer.choices.begin(), answer.choices.end(), std::size_t{0},
        [](std::size_t sum, const auto &choice) { return sum + choice.second.token_ids.size(); });
}

// Checks that the responses together equal the answer with "stream": false.
const Answer &check_whole(Subject &subject, Reader &reader, const std::string &body) {
    const Answer &whole = subject.whole(body);
    const Answer &answer = reader.collect();
    expect_status(answer.status, DYNAMO_END, "the answer");
    expect_same(answer, whole);
    expect(!answer.finish_reason().empty(), "there is no finish reason");
    expect(answer.usage.has_value() == whole.usage.has_value(), "only one of two has token counts");
    if (whole.usage) {
        expect(answer.usage->prompt_tokens == whole.usage->prompt_tokens &&
                   answer.usage->completion_tokens == whole.usage->completion_tokens,
               "the token counts differ");
    }
    return answer;
}

void body_of(Subject &subject, Mode mode, const char *key) {
    const std::string body = subject.profile.get(key);
    check_whole(subject, *subject.sent(mode, body), body);
}

void short_answer(Subject &subject, Mode mode) {
    body_of(subject, mode, "short");
}

void long_answer(Subject &subject, Mode mode) {
    body_of(subject, mode, "long");
    const Answer &whole = subject.whole(subject.profile.get("long"));
    expect(whole.text().size() + whole.token_ids().size() > 12,
           "the profile's long answer is short");
}

void usage(Subject &subject, Mode mode) {
    (void)subject.profile.get("usage");
    const Answer &answer = subject.whole(subject.profile.get("short"));
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    const Answer &streamed = reader->collect();
    expect(streamed.usage.has_value(), "there are no token counts");
    expect(streamed.usage->prompt_tokens > 0, "the prompt has no tokens");
    expect(streamed.usage->completion_tokens > 0, "the answer has no tokens");
    expect(streamed.usage->completion_tokens == answer.usage->completion_tokens,
           "the counts differ");
}

void check_order(const Reader &reader, const dynamo_llm::Timing &timing) {
    expect(timing.queue && timing.first_token && timing.total, "a time of the request is missing");
    expect(*timing.queue <= *timing.first_token && *timing.first_token <= *timing.total,
           "the times of the request are not in order");
    const auto asked = reader.request().timing();
    expect(asked.total == timing.total, "request and response have other times");
}

void timing(Subject &subject, Mode mode) {
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_END, "the answer");
    expect(answer.timing.has_value(), "the last response has no times");
    check_order(*reader, *answer.timing);
}

void token_ids(Subject &subject, Mode mode) {
    (void)subject.profile.get("token_ids");
    const auto reader = subject.sent(mode, subject.profile.get("short"));
    const Answer &answer = reader->collect();
    expect(tokens_of(answer) > 0, "there are no token ids");
    // The token that ended the answer is counted, but not always included in the token ids.
    expect(!answer.usage || tokens_of(answer) <= answer.usage->completion_tokens,
           "there are more token ids than tokens");
}

void max_tokens(Subject &subject, Mode mode) {
    const std::string body = js::with(subject.profile.get("max_tokens"), "max_tokens", "5");
    const auto reader = subject.sent(mode, body);
    const Answer &answer = check_whole(subject, *reader, body);
    expect_text(answer.finish_reason(), "length", "the finish reason");
    expect(!answer.usage || answer.usage->completion_tokens == 5, "the answer has not 5 tokens");
    expect(tokens_of(answer) <= 5, "there are more than 5 token ids");
}

// Returns the start of the first code point at or after `at`.
std::size_t code_point(const std::string &text, std::size_t at) {
    while (at < text.size() && (text[at] & 0xC0) == 0x80) {
        ++at;
    }
    return at;
}

void stop_string(Subject &subject, Mode mode) {
    const std::string body = subject.profile.get("stop");
    const std::string text = subject.whole(body).text();
    const std::size_t begin = code_point(text, text.size() / 2);
    const std::size_t end = code_point(text, begin + 7);
    expect(end < text.size(), "the profile's answer is too short for a stop string: " + text);
    const std::string stop = text.substr(begin, end - begin);
    const auto reader = subject.sent(mode, js::with(body, "stop", js::array_of({stop})));
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_END, "the answer");
    expect_text(answer.text(), text.substr(0, text.find(stop)), "the text before \"" + stop + "\"");
    expect_text(answer.finish_reason(), "stop", "the finish reason");
}

// Text that begins like a stop string, but does not complete it, is part of the answer.
void unfinished_stop_string(Subject &subject, Mode mode) {
    const std::string body = subject.profile.get("stop");
    const Answer &whole = subject.whole(body);
    const std::size_t begin = code_point(whole.text(), whole.text().size() / 2);
    const std::size_t end = code_point(whole.text(), begin + 4);
    const std::string inside = whole.text().substr(begin, end - begin);
    const std::string last = whole.text().substr(code_point(whole.text(), whole.text().size() - 3));
    const std::string stops = js::array_of({inside + "\x01", last + "\x01"});
    const auto reader = subject.sent(mode, js::with(body, "stop", stops));
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_END, "the answer");
    expect_text(answer.text(), whole.text(), "the text");
    expect_text(answer.finish_reason(), whole.finish_reason(), "the finish reason");
}

// Answer::add() checks for every response that it does not split a code point.
void unicode(Subject &subject, Mode mode) {
    const std::string body = subject.profile.get("unicode");
    const auto reader = subject.sent(mode, body);
    const std::string text = check_whole(subject, *reader, body).text();
    expect(code_point(text, 0) == 0, "the text begins inside a code point");
    bool has_some = false;
    for (const char c : text) {
        has_some = has_some || (c & 0x80) != 0;
    }
    expect(has_some, "the profile's answer has no characters of several bytes: " + text);
}

void choices(Subject &subject, Mode mode) {
    const std::string body = js::with(subject.profile.get("choices"), "n", "2");
    const auto reader = subject.sent(mode, body);
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_END, "the answer");
    expect(answer.choices.size() == 2, "there are not two choices");
    const std::string &one = subject.whole(subject.profile.get("choices")).text();
    for (const auto &[index, choice] : answer.choices) {
        expect(index < 2, "a choice has the number " + std::to_string(index));
        expect_text(choice.text, one, "a choice");
        expect(!choice.finish_reason.empty(), "a choice has no finish reason");
    }
}

}  // namespace

const std::vector<Case> answer_cases = {
    {"short answer", short_answer},
    {"long answer", long_answer},
    {"usage", usage},
    {"timing", timing},
    {"token ids", token_ids},
    {"max_tokens", max_tokens},
    {"stop string", stop_string},
    {"unfinished stop string", unfinished_stop_string},
    {"unicode", unicode},
    {"two choices", choices},
};

namespace {

// The stream is full before the first receive: the engine waits, and no text is lost.
void slow_reader(Subject &subject, Mode mode) {
    const std::string body = subject.profile.very_long();
    subject.whole(body);
    const long long full = subject.count("/streams/full");
    const auto reader = subject.sent(mode, body, true);
    wait_until([&] { return subject.count("/streams/full") > full; });
    check_whole(subject, *reader, body);
}

// Requests may outlive the runtime's handle.
void runtime_destroyed(Subject &subject, Mode) {
    const std::string body = subject.profile.get("long");
    subject.whole(body);
    std::vector<std::unique_ptr<Reader>> readers;
    for (const Mode mode : all_modes) {
        readers.push_back(subject.sent(mode, body));
    }
    subject.runtime = dynamo_llm::Runtime(nullptr);
    for (const auto &reader : readers) {
        check_whole(subject, *reader, body);
    }
}

}  // namespace

const std::vector<Case> small_cases = {
    {"long answer", long_answer},
    {"slow reader", slow_reader},
    {"unicode", unicode},
    {"stop string", stop_string},
    {"runtime destroyed in flight", runtime_destroyed, false},
};

namespace {

// With "when_full": "fail", a full stream whose reader does not receive ends.
void slow_consumer(Subject &subject, Mode mode) {
    const std::string body = subject.profile.very_long();
    const Answer &whole = subject.whole(body);
    const auto reader = subject.sent(mode, body, true);
    expect_status(reader->wait_for_end(), DYNAMO_ERROR_SLOW_CONSUMER,
                  "a stream that was not received");
    const Answer &answer = reader->collect();
    expect_status(answer.status, DYNAMO_ERROR_SLOW_CONSUMER, "the stream");
    expect_part(answer, whole);
    reader->check_after_end();
}

}  // namespace

const std::vector<Case> overflow_cases = {{"slow consumer", slow_consumer}};
