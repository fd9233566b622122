// SPDX-License-Identifier: Apache-2.0
// Completion queues through the wrapper.
#include <map>
#include <utility>
#include <vector>

#include "support.hpp"

static void one_place_for_many_requests() {
    const Runtime runtime = start_cpp();
    const Queue queue = MUST(Queue::create());
    struct Answer {
        Request request;
        std::string text;
        int ends = 0;
    };
    std::vector<Answer> answers(20);
    for (std::size_t i = 0; i < answers.size(); ++i) {
        answers[i].request = MUST(Request::create(Completion("word " + std::to_string(i))));
        MUST(answers[i].request.set_queue(queue, &answers[i]));
        MUST(runtime.send(answers[i].request));
    }
    for (std::size_t ended = 0; ended < answers.size();) {
        const Event event = queue.next();
        auto &its_answer = *static_cast<Answer *>(event.user);
        CHECK(event.request == its_answer.request.get());
        CHECK(bool(event) == bool(event.response) && its_answer.ends == 0 && !event.is_pending());
        its_answer.text += event.response.text();
        if (event.has_ended()) {
            CHECK_STATUS(event.status, DYNAMO_END);
            ++its_answer.ends;
            ++ended;
        }
    }
    for (std::size_t i = 0; i < answers.size(); ++i) {
        CHECK(answers[i].text == "word " + std::to_string(i));
    }
    CHECK(queue.poll().is_pending() && queue.next(milliseconds(1)).is_pending());
}

static void it_says_why_there_are_no_events() {
    const Queue none;
    CHECK(!none);
    const Event event = none.next();
    CHECK_STATUS(event.status, DYNAMO_ERROR_INVALID_HANDLE);
    CHECK(!event && !event.has_ended() && !event.is_pending());

    Request request = MUST(Request::create(Completion("a")));
    CHECK_STATUS(error_of([&] { return request.set_queue(none); }).status(),
                 DYNAMO_ERROR_INVALID_HANDLE);
    Queue queue = MUST(Queue::create());
    MUST(request.set_queue(queue));
    CHECK_STATUS(error_of([&] { return request.set_queue(queue); }).status(),
                 DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(error_of([&] { return request.set_callback([](const Received &) {}); }).status(),
                 DYNAMO_ERROR_INVALID_STATE);
}

static void it_moves() {
    const Runtime runtime = start_cpp();
    Queue first = MUST(Queue::create());
    dynamo_queue_t *const handle = first.get();
    Queue second = std::move(first);
    CHECK(!first && second.get() == handle);
    Request request = MUST(Request::create(Completion("a")));
    MUST(request.set_queue(second));
    MUST(runtime.send(request));
    const Event event = second.next();
    CHECK(event.request == request.get() && event.user == nullptr);
    Queue third(second.release());
    CHECK(!second && third.get() == handle);
}

static void it_joins_an_event_loop() {
    const Runtime runtime = start_cpp();
    const Queue queue = MUST(Queue::create());
    const int fd = MUST(queue.fd());
    CHECK(fd == dynamo_queue_fd(queue.get()) && !readable(fd));
    Request request = MUST(Request::create(Completion("a")));
    MUST(request.set_queue(queue));
    MUST(runtime.send(request));
    Event event;
    while (!(event = queue.next()).has_ended()) {
    }
    CHECK_STATUS(event.status, DYNAMO_END);
    CHECK(!readable(fd));
    queue.wake();
    CHECK(readable(fd) && queue.next().is_pending() && !readable(fd));
    CHECK(request.usage().completion_tokens == 1 && request.usage().prompt_tokens == 1);

    const Queue none;
    CHECK_STATUS(error_of([&] { return none.fd(); }).status(), DYNAMO_ERROR_INVALID_HANDLE);
    none.wake();
    CHECK(Request().usage().completion_tokens == 0);
}

int main() {
    BEGIN();
    RUN(one_place_for_many_requests);
    RUN(it_says_why_there_are_no_events);
    RUN(it_moves);
    RUN(it_joins_an_event_loop);
    return 0;
}
