// SPDX-License-Identifier: Apache-2.0
// Cases: many concurrent requests, and runtimes that are shut down with requests in flight.
#include <mutex>
#include <thread>

#include "js.hpp"
#include "suite.hpp"

namespace {

constexpr int thread_count = 4;
constexpr int of_each = 16;

std::vector<std::string> several_bodies(const Profile &profile) {
    const std::string given = profile.get("several");
    const std::vector<std::string> list =
        given[0] == '[' ? js::elements(given) : std::vector<std::string>{given};
    std::vector<std::string> bodies;
    for (int i = 0; i < thread_count * of_each; ++i) {
        bodies.push_back(js::numbered(list[static_cast<std::size_t>(i) % list.size()], i));
    }
    return bodies;
}

Mode nth_mode(std::size_t i) {
    return all_modes[i % all_modes.size()];
}

// 64 requests from four threads, in all delivery modes: each gets its own answer.
void many_at_once(Subject &subject, Mode) {
    const std::vector<std::string> bodies = several_bodies(subject.profile);
    std::vector<const Answer *> wholes;
    bool differ = false;
    for (const std::string &body : bodies) {
        wholes.push_back(&subject.whole(body));
        differ = differ || wholes.back()->text() != wholes[0]->text() ||
                 wholes.back()->token_ids() != wholes[0]->token_ids();
    }
    expect(differ, "the profile's several answers are one and the same");
    std::mutex mutex;
    std::string trouble;
    std::vector<std::thread> threads;
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
        threads.emplace_back([&, thread] {
            try {
                std::vector<std::unique_ptr<Reader>> readers;
                for (std::size_t i = 0; i < of_each; ++i) {
                    readers.push_back(subject.sent(nth_mode(i), bodies[thread * of_each + i]));
                }
                for (std::size_t i = of_each; i-- > 0;) {
                    const Answer &answer = readers[i]->collect();
                    expect_status(answer.status, DYNAMO_END, "one of many");
                    expect_same(answer, *wholes[thread * of_each + i]);
                }
            } catch (const std::exception &error) {
                const std::lock_guard lock(mutex);
                trouble = error.what();
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    expect(trouble.empty(), trouble);
}

std::vector<std::unique_ptr<Reader>> in_flight(Subject &subject, const std::string &body,
                                               bool is_held) {
    subject.whole(body);
    std::vector<std::unique_ptr<Reader>> readers;
    for (const Mode mode : all_modes) {
        readers.push_back(subject.sent(mode, body, is_held));
    }
    return readers;
}

// Shutdown without a timeout: requests in flight end by themselves, whether received or not.
void drain(Subject &subject, Mode) {
    const auto readers = in_flight(subject, subject.profile.get("long"), true);
    subject.runtime.shutdown(dynamo_llm::forever);
    for (const auto &reader : readers) {
        const Answer &answer = reader->collect();
        expect_status(answer.status, DYNAMO_END, "a request in flight");
        expect_same(answer, subject.whole(subject.profile.get("long")));
        reader->check_after_end();
    }
    expect(subject.count("/requests/in_flight") == 0, "something is in flight after a shutdown");
    try {
        subject.sent(Mode::recv, subject.profile.get("short"));
        throw Failed("a request was taken after the shutdown");
    } catch (const dynamo_llm::Error &error) {
        expect_status(error.status(), DYNAMO_ERROR_CLOSED, "sending after the shutdown");
    }
    subject.runtime.shutdown(dynamo_llm::forever);  // may be repeated
}

// Shutdown times out: the requests in flight cannot end, since their responses are not received.
void timeout(Subject &subject, Mode) {
    const auto readers = in_flight(subject, subject.profile.very_long(), true);
    const long long cancelled = subject.count("/requests/cancelled");
    try {
        subject.runtime.shutdown(std::chrono::milliseconds(20));
        throw Failed("the shutdown says that all ended by themselves");
    } catch (const dynamo_llm::Error &error) {
        expect_status(error.status(), DYNAMO_ERROR_DEADLINE_EXCEEDED, "the shutdown");
    }
    const Answer &whole = subject.whole(subject.profile.very_long());
    for (const auto &reader : readers) {
        const Answer &answer = reader->collect();
        expect_status(answer.status, DYNAMO_ERROR_CANCELLED, "a request in flight");
        expect_part(answer, whole);
        reader->check_after_end();
    }
    expect(
        subject.count("/requests/cancelled") - cancelled == static_cast<long long>(readers.size()),
        "not each of them was counted as cancelled");
}

}  // namespace

const std::vector<Case> many_cases = {{"64 at once", many_at_once, false}};
const std::vector<Case> drain_cases = {{"shutdown drains", drain, false}};
const std::vector<Case> timeout_cases = {{"shutdown times out", timeout, false}};
