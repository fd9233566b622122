// SPDX-License-Identifier: Apache-2.0
// A std::stop_token cancels requests, whenever the stop is requested.
#include "support.hpp"

#if !defined(DYNAMO_LLM_HAS_STOP_TOKEN)
int main() {
    std::fputs("this standard library has no std::stop_token\n", stderr);
    return 0;
}
#else
#include <thread>

static const char *const stalls = "[{'text': 'a'}, {'stall': true}]";

static void before_sending() {
    const Runtime runtime = start_cpp("scripted");
    std::stop_source source;
    Request request = MUST(Request::create(script(stalls)));
    const auto bound = request.cancel_on(source.get_token());
    source.request_stop();
    CHECK_STATUS(request.status(), DYNAMO_ERROR_CANCELLED);
    CHECK_STATUS(error_of([&] { return runtime.send(request); }).status(), DYNAMO_ERROR_CANCELLED);
    Request late = MUST(Request::create(script(stalls)));
    const auto at_once = late.cancel_on(source.get_token());  // the stop was requested before
    CHECK_STATUS(late.status(), DYNAMO_ERROR_CANCELLED);
}

static void while_a_thread_waits() {
    const Runtime runtime = start_cpp("scripted");
    const Request request = MUST(runtime.send(script(stalls)));
    CHECK(MUST(request.recv()).text() == "a");
    std::jthread reader([&](std::stop_token token) {
        const auto bound = request.cancel_on(std::move(token));
        CHECK_STATUS(request.next().status, DYNAMO_ERROR_CANCELLED);
    });
    reader.request_stop();
}

static void after_the_end() {
    const Runtime runtime = start_cpp("scripted");
    std::stop_source source;
    const Request request = MUST(runtime.send(script("[{'text': 'a'}]")));
    const auto bound = request.cancel_on(source.get_token());
    CHECK(whole_text(request) == "a");
    source.request_stop();
    CHECK_STATUS(request.status(), DYNAMO_END);
}

static void after_destruction() {
    const Runtime runtime = start_cpp("scripted");
    std::stop_source source;
    Request request = MUST(runtime.send(script(stalls)));
    const auto bound = request.cancel_on(source.get_token());
    request = MUST(runtime.send(script(stalls)));  // may reuse the slot of the old one
    source.request_stop();
    CHECK_STATUS(request.status(), DYNAMO_PENDING);
}

static void no_longer_bound() {
    const Runtime runtime = start_cpp("scripted");
    std::stop_source source;
    const Request request = MUST(runtime.send(script(stalls)));
    {
        const auto bound = request.cancel_on(source.get_token());
    }
    source.request_stop();
    CHECK_STATUS(request.status(), DYNAMO_PENDING);
}

int main() {
    BEGIN();
    RUN(before_sending);
    RUN(while_a_thread_waits);
    RUN(after_the_end);
    RUN(after_destruction);
    RUN(no_longer_bound);
    return 0;
}
#endif
