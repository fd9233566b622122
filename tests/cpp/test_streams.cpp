// SPDX-License-Identifier: Apache-2.0
// Answers arrive complete, in every delivery mode.
#include <poll.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <thread>
#include <vector>

#include "support.hpp"

// Clang before 16 cannot compile the views of GCC's library.
#if defined(__cpp_lib_ranges) && (!defined(__clang__) || __clang_major__ >= 16)
#define HAS_RANGES 1
#include <ranges>
#include <span>
#endif

static const char *const words = "one two three four five six seven eight";

static void a_loop_over_everything() {
    const Runtime runtime = start_cpp();
    std::string text;
    std::vector<std::uint32_t> ids;
    std::string reason;
    std::optional<dynamo_llm::Usage> usage;
    for (const Response &response : MUST(runtime.send(Completion(words)))) {
        text += response.text();
        const dynamo_llm::TokenIds some = response.token_ids();
        CHECK(some.empty() == (some.size() == 0) &&
              some.end() - some.begin() == static_cast<std::ptrdiff_t>(some.size()));
        ids.insert(ids.end(), some.begin(), some.end());
        CHECK(some.empty() || (some[0] == *some.data() && ids.back() == some[some.size() - 1]));
        reason = response.finish_reason();
        usage = response.usage();
        CHECK(response.index() == 0);
        CHECK(contains(MUST(response.json()), "\"object\":\"text_completion\""));
    }
    CHECK(text == words && reason == "stop");
    std::vector<std::uint32_t> all(8);
    std::iota(all.begin(), all.end(), 0u);
    CHECK(ids == all);
    CHECK(usage && usage->prompt_tokens == 8 && usage->completion_tokens == 8 &&
          usage->cached_tokens == 0);
}

static void next_and_poll() {
    const Runtime runtime = start_cpp("scripted");
    const Request request =
        MUST(runtime.send(script("[{'text': 'a'}, {'delay_ms': 30}, {'text': 'b'}]")));
    CHECK_STATUS(request.status(), DYNAMO_PENDING);
    std::string text;
    Received received;
    for (received = request.next(); !received.has_ended();
         received = request.next(std::chrono::microseconds(100))) {
        CHECK(bool(received) == bool(received.response) && bool(received) != received.is_pending());
        text += received.response.text();
    }
    CHECK(text == "ab");
    CHECK_STATUS(received.status, DYNAMO_END);
    CHECK_STATUS(request.poll().status, DYNAMO_END);  // the end is repeated
    CHECK_STATUS(request.next().status, DYNAMO_END);
    CHECK(!MUST(request.recv()));
    CHECK(request.begin() == request.end());
    CHECK_STATUS(request.status(), DYNAMO_END);
    CHECK(request.id().size() == 20 && request.id().substr(0, 4) == "req-");
}

// Timeouts as in the standard library: a negative one has expired, fractions of a millisecond count.
static void times() {
    const Runtime runtime = start_cpp("scripted");
    Request request = MUST(runtime.send(script("[{'stall': true}]")));
    const auto now = std::chrono::steady_clock::now();
    CHECK(request.next(now - std::chrono::steady_clock::now()).is_pending());
    CHECK(request.next(milliseconds(-1)).is_pending());
    CHECK(request.next(std::chrono::hours(-100)).is_pending());
    CHECK(request.next(std::chrono::duration<double>(-0.5)).is_pending());
    CHECK(request.next(std::chrono::nanoseconds(1)).is_pending());
    const auto before = std::chrono::steady_clock::now();
    CHECK(request.next(std::chrono::microseconds(1500)).is_pending());
    CHECK(std::chrono::steady_clock::now() - before >= std::chrono::microseconds(1500));
    using dynamo_llm::detail::milliseconds;
    CHECK(milliseconds(dynamo_llm::forever) == -1);
    CHECK(milliseconds(std::chrono::nanoseconds::max()) == 9223372036855);
    CHECK(milliseconds(std::chrono::hours::max()) == -1);
    CHECK(milliseconds(std::chrono::seconds(3)) == 3000);
    CHECK(milliseconds(std::chrono::nanoseconds(3000000)) == 3);
    CHECK(milliseconds(std::chrono::nanoseconds(3000001)) == 4);
    CHECK(milliseconds(std::chrono::duration<float>(0.0f)) == 0);
    CHECK(milliseconds(std::chrono::duration<double>(NAN)) == -1);
}

static void deadlines() {
    const Runtime runtime = start_cpp("scripted");
    Request request = MUST(Request::create(script("[{'text': 'a'}, {'stall': true}]")));
    for (const milliseconds wrong : {milliseconds(0), milliseconds(-5)}) {
        CHECK_STATUS(error_of([&] { return request.set_deadlines(wrong); }).status(),
                     DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    MUST(request.set_deadlines(dynamo_llm::forever, std::chrono::microseconds(20500)));
    MUST(runtime.send(request));
    CHECK(MUST(request.recv()).text() == "a");
    const Error error = error_of([&] { return request.recv(); });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    CHECK_CONTAINS(error.what(), "21 ms after");
    CHECK(error.is_retriable());
    request = MUST(Request::create(script("[{'stall': true}]")));
    MUST(request.set_deadlines(milliseconds(10)));
    MUST(runtime.send(request));
    CHECK_CONTAINS(error_of([&] { return request.recv(); }).what(), "to the first token");
}

static void a_descriptor() {
    const Runtime runtime = start_cpp();
    const Request request = MUST(runtime.send(Completion(words)));
    std::string text;
    while (true) {
        pollfd wait = {MUST(request.fd()), POLLIN, 0};
        CHECK(poll(&wait, 1, -1) == 1);
        const Received received = request.poll();
        CHECK(!received.is_pending());
        if (received.has_ended()) {
            CHECK_STATUS(received.status, DYNAMO_END);
            break;
        }
        text += received.response.text();
    }
    CHECK(text == words);
}

static void another_thread_cancels() {
    const Runtime runtime = start_cpp("scripted");
    const Request request = MUST(runtime.send(script("[{'text': 'a'}, {'stall': true}]")));
    std::thread other([&] { request.cancel(); });
    const Error error = error_of([&] {
        while (true) {
            auto response = request.recv();
            if (!response) {
                return response;
            }
        }
    });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_CANCELLED);
    other.join();
}

// An iterator uses the C handle, so the Request may be moved during the iteration.
static void a_request_moves_under_its_iterator() {
    const Runtime runtime = start_cpp();
    auto first = std::make_unique<Request>(MUST(runtime.send(Completion(words))));
    Request::Iterator it = first->begin();
    const Request second = std::move(*first);
    first.reset();
    std::string text;
    for (; it != second.end(); ++it) {
        text += it->text();
    }
    CHECK(text == words);
}

static void statistics_and_shutdown() {
    const Runtime runtime = start_cpp();
    CHECK(whole_text(MUST(runtime.send("{\"prompt\": \"a b\"}"))) == "a b");
    CHECK(contains(MUST(runtime.statistics()), "\"engine\":\"echo\""));
    CHECK(statistic(runtime.get(), "received") == 2);
    CHECK(contains(MUST(runtime.models()), "\"id\":\"echo\""));
    CHECK(contains(MUST(runtime.metrics()), "status=\"ok\"} 1\n"));
    MUST(runtime.shutdown(std::chrono::seconds(100)));
    const Runtime script_runtime = start_cpp("scripted");
    const Request request = MUST(script_runtime.send(script("[{'stall': true}]")));
    CHECK_STATUS(error_of([&] { return script_runtime.shutdown(milliseconds(1)); }).status(),
                 DYNAMO_ERROR_DEADLINE_EXCEEDED);
    CHECK_STATUS(request.next().status, DYNAMO_ERROR_CANCELLED);
}

static void timing() {
    const Runtime runtime = start_cpp();
    const Request unsent = MUST(Request::create(Completion("a")));
    CHECK(!unsent.timing().queue && !unsent.timing().first_token && !unsent.timing().total);
    const Request request = MUST(runtime.send(Completion("a b c").stream(false)));
    const dynamo_llm::Received received = request.next();
    const auto times = received.response.timing();
    CHECK(times && times->queue && times->first_token && times->total);
    CHECK(*times->queue <= *times->first_token && *times->first_token <= *times->total);
    CHECK(request.timing().total == times->total);
    CHECK(!Response().timing() && !Request().timing().total);
}

#if defined(HAS_RANGES)
static_assert(std::input_iterator<Request::Iterator>);
static_assert(std::sentinel_for<Request::Iterator::End, Request::Iterator>);
static_assert(std::ranges::input_range<Request> && std::ranges::input_range<const Request> &&
              !std::ranges::forward_range<Request>);
static_assert(std::same_as<std::ranges::range_reference_t<Request>, Response &>);
static_assert(std::ranges::contiguous_range<dynamo_llm::TokenIds>);

static void ranges() {
    const Runtime runtime = start_cpp();
    const auto text_of = [](const Response &response) { return std::string(response.text()); };
    // Responses may combine tokens, so only the complete text is known.
    std::string text;
    const Request request = MUST(runtime.send(Completion(words)));
    for (const std::string &part : request | std::views::transform(text_of)) {
        text += part;
    }
    CHECK(text == words);
    // A temporary is moved into the view.
    text.clear();
    auto parts =
        MUST(runtime.send(Completion(words))) |
        std::views::filter([](const Response &response) { return !response.text().empty(); }) |
        std::views::transform(text_of);
    auto moved = std::move(parts);
    for (const std::string &part : moved) {
        text += part;
    }
    CHECK(text == words);
    const Request counted = MUST(runtime.send(Completion(words)));
    std::size_t tokens = 0;
    std::ranges::for_each(counted, [&](const Response &response) {
        const std::span<const std::uint32_t> ids(response.token_ids());
        tokens += ids.size();
    });
    CHECK(tokens == 8);
    const Request searched = MUST(runtime.send(Completion(words)));
    const auto last = std::ranges::find_if(
        searched, [](const Response &response) { return !response.finish_reason().empty(); });
    CHECK(last != searched.end() && last->finish_reason() == "stop");
}
#endif

int main() {
    BEGIN();
    RUN(a_loop_over_everything);
    RUN(next_and_poll);
    RUN(times);
    RUN(deadlines);
    RUN(a_descriptor);
    RUN(another_thread_cancels);
    RUN(a_request_moves_under_its_iterator);
    RUN(statistics_and_shutdown);
    RUN(timing);
#if defined(HAS_RANGES)
    RUN(ranges);
#endif
    return 0;
}
