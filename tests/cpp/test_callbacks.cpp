// SPDX-License-Identifier: Apache-2.0
// Callbacks of the program are called in order and released exactly once, whatever they do.
#include <atomic>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "dynamo_llm/engine.h"
#include "support.hpp"

// Captured by a callback: counts how often the callback was destroyed, moves excluded.
struct Token {
    explicit Token(std::atomic<int> &count) : released(&count) {}
    Token(Token &&other) noexcept : released(std::exchange(other.released, nullptr)) {}
    ~Token() {
        if (released != nullptr) {
            ++*released;
        }
    }
    std::atomic<int> *released;
};

static void events_come_in_order() {
    const Runtime runtime = start_cpp();
    std::atomic<int> released{0};
    std::string text;
    std::vector<std::int32_t> ends;
    Request request = MUST(Request::create(Completion("a b c d")));
    MUST(request.set_callback([&, token = Token(released)](Received received) {
        CHECK(bool(received) == bool(received.response) && released == 0);
        text += received.response.text();
        if (received.has_ended()) {
            ends.push_back(received.status);
        }
    }));
    MUST(runtime.send(request));
    EVENTUALLY(released == 1);
    CHECK(text == "a b c d" && ends == std::vector<std::int32_t>{DYNAMO_END});
    CHECK_STATUS(error_of([&] { return request.recv(); }).status(), DYNAMO_ERROR_INVALID_STATE);
}

static void what_is_refused_is_released() {
    const Runtime runtime = start_cpp();
    std::atomic<int> released{0};
    Request request = MUST(Request::create(Completion("a")));
    const auto function = [&] { return [token = Token(released)](const Received &) {}; };
    MUST(request.set_callback(function()));
    const Error error = error_of([&] { return request.set_callback(function()); });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK(released == 1);
    request = Request();  // never sent
    EVENTUALLY(released == 2);
}

static void a_function_may_own_its_request() {
    const Runtime runtime = start_cpp();
    std::atomic<int> released{0};
    auto request = std::make_shared<Request>(MUST(Request::create(Completion("a b c"))));
    MUST(request->set_callback([request, token = Token(released)](Received) mutable {
        request.reset();  // no event follows the first one
    }));
    Request *const raw = request.get();
    dynamo_request_t *const handle = raw->get();
    MUST(runtime.send(*request));
    request.reset();
    EVENTUALLY(released == 1);
    CHECK_STATUS(dynamo_request_status(handle), DYNAMO_ERROR_INVALID_HANDLE);
}

static void a_plain_function(Received received) {
    CHECK(!received.is_pending());
}
static void plain_functions_are_fine() {
    const Runtime runtime = start_cpp();
    Request request = MUST(Request::create(Completion("a")));
    MUST(request.set_callback(a_plain_function));
    MUST(runtime.send(request));
    EVENTUALLY(request.status() == DYNAMO_END);
}

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
static void one_that_throws_cancels_its_request() {
    const Runtime runtime = start_cpp("scripted");
    std::atomic<int> released{0};
    std::atomic<int> calls{0};
    std::atomic<std::int32_t> last{DYNAMO_OK};
    Request request = MUST(Request::create(script("[{'text': 'a'}, {'stall': true}]")));
    MUST(request.set_callback([&, token = Token(released)](const Received &received) {
        ++calls;
        last = received.status;
        throw std::runtime_error("by the caller");
    }));
    MUST(runtime.send(request));
    EVENTUALLY(released == 1);
    CHECK(calls == 2);
    CHECK_STATUS(last, DYNAMO_ERROR_CANCELLED);
    CHECK_STATUS(request.status(), DYNAMO_ERROR_CANCELLED);
    // The library's callback thread still works.
    Request other = MUST(Request::create(script("[]")));
    MUST(other.set_callback([token = Token(released)](const Received &) { throw 1; }));
    MUST(runtime.send(other));
    EVENTUALLY(released == 2);
}
#endif

static void many_at_once() {
    const Runtime runtime = MUST(Runtime::create(Config().engine("echo").stream(2)));
    const int count = static_cast<int>(200 * scale());
    std::atomic<int> released{0};
    std::atomic<int> tokens{0};
    std::vector<Request> requests;
    for (int i = 0; i < count; ++i) {
        requests.push_back(MUST(Request::create(Completion("a b c d e f"))));
        MUST(requests.back().set_callback([&, token = Token(released)](const Received &received) {
            tokens += static_cast<int>(received.response.token_ids().size());
        }));
        MUST(runtime.send(requests.back()));
    }
    EVENTUALLY(released == count);
    CHECK(tokens == 6 * count);
}

static void log_records_go_to_a_function() {
    std::atomic<int> released{0};
    std::mutex mutex;
    std::string records;
    MUST(dynamo_llm::set_log(
        DYNAMO_LOG_TRACE, [&, token = Token(released)](std::int32_t level, std::string_view logger,
                                                       std::string_view message) {
            const std::lock_guard<std::mutex> lock(mutex);
            records.append(std::to_string(level))
                .append(" ")
                .append(logger)
                .append(": ")
                .append(message) += '\n';
        }));
    dynamo_log_write(DYNAMO_LOG_TRACE, "a.b", "first");
    dynamo_log_write(DYNAMO_LOG_ERROR, "c", "second");
    CHECK(released == 0);
    MUST(dynamo_llm::set_log(DYNAMO_LOG_OFF));
    EVENTUALLY(released == 1);
    dynamo_log_write(DYNAMO_LOG_ERROR, "c", "third");
    CHECK(records == "0 a.b: first\n4 c: second\n");
    const auto wrong = static_cast<dynamo_log_level_t>(7);
    const Error error = error_of([&] {
        return dynamo_llm::set_log(
            wrong, [token = Token(released)](std::int32_t, std::string_view, std::string_view) {});
    });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK(released == 2);
    MUST(dynamo_llm::set_log(DYNAMO_LOG_WARNING));
}

int main() {
    BEGIN();
    RUN(events_come_in_order);
    RUN(what_is_refused_is_released);
    RUN(a_function_may_own_its_request);
    RUN(plain_functions_are_fine);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    RUN(one_that_throws_cancels_its_request);
#endif
    RUN(many_at_once);
    RUN(log_records_go_to_a_function);
    return 0;
}
