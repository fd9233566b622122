/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop waits for requests through their file descriptors, without a thread per request. */
#include <string.h>
#include <sys/epoll.h>

#include "support.h"

static void readable_as_long_as_there_is_something(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_request_t *request = sent(runtime, say_script("[{'text': 'a'}, {'stall': true}]"));
    const int fd = dynamo_request_fd(request);
    CHECK(fd >= 0);
    CHECK(dynamo_request_fd(request) == fd);
    dynamo_response_t *response;
    EVENTUALLY(readable(fd));
    CHECK(readable(fd)); /* level-triggered */
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_OK);
    dynamo_free(response);
    CHECK(!readable(fd));
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_PENDING);
    CHECK(!readable(fd));
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    for (int i = 0; i < 3; ++i) { /* the end is repeated */
        CHECK(readable(fd));
        CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_ERROR_CANCELLED);
    }
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void readable_while_a_part_is_left(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo'}");
    dynamo_request_t *request = sent(runtime, say("a b c"));
    EVENTUALLY(dynamo_request_status(request) == DYNAMO_END);
    const int fd = dynamo_request_fd(request); /* only after it was sent */
    CHECK(readable(fd));
    dynamo_response_t *response;
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_OK);
    dynamo_free(response);
    CHECK(readable(fd));
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_END);
    CHECK(readable(fd));
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void not_readable_for_half_a_code_point(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_request_t *request =
        sent(runtime, say_script("[{'bytes': 'f0'}, {'bytes': '9f98'}, {'stall': true}]"));
    const int fd = dynamo_request_fd(request);
    EVENTUALLY(statistic(runtime, "pushed") == 2);
    dynamo_response_t *response;
    CHECK(!readable(fd));
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_PENDING);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void one_thread_waits_for_many(void) {
    enum { count = 64, repeat = 300 };
    dynamo_runtime_t *runtime =
        start("{'engine': 'echo', 'options': {'repeat': 300}, 'stream': {'capacity': 7}}");
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop >= 0);
    dynamo_request_t *requests[count];
    answer answers[count];
    memset(answers, 0, sizeof answers);
    for (unsigned i = 0; i < count; ++i) {
        requests[i] = sent(runtime, say("a b"));
        struct epoll_event wanted = {EPOLLIN, {.u32 = i}};
        CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, dynamo_request_fd(requests[i]), &wanted) == 0);
    }
    for (int left = count; left > 0;) {
        struct epoll_event events[16];
        const int found = epoll_wait(loop, events, 16, -1);
        CHECK(found > 0);
        for (int i = 0; i < found; ++i) {
            const unsigned which = events[i].data.u32;
            dynamo_response_t *response;
            const int32_t status = dynamo_request_next(requests[which], 0, &response);
            if (status == DYNAMO_OK) {
                add_response(&answers[which], response);
                continue;
            }
            CHECK_STATUS(status, DYNAMO_END); /* never PENDING: no spurious wakeup */
            CHECK(answers[which].token_count == 2 * repeat && answers[which].length == 3 * repeat);
            CHECK(epoll_ctl(loop, EPOLL_CTL_DEL, dynamo_request_fd(requests[which]), NULL) == 0);
            dynamo_request_destroy(requests[which]);
            answer_free(&answers[which]);
            --left;
        }
    }
    close(loop);
    dynamo_runtime_destroy(runtime);
}

static void descriptors_are_given_back(void) {
    dynamo_runtime_t *runtime = start_echo();
    const long before = count_of("/proc/self/fd");
    for (int i = 0; i < 100; ++i) {
        dynamo_request_t *request = sent(runtime, say("a"));
        CHECK(dynamo_request_fd(request) >= 0);
        check_answer(request, "a", DYNAMO_END);
    }
    /* The engine may not have finished with the last one yet. */
    EVENTUALLY(statistic(runtime, "in_flight") == 0);
    EVENTUALLY(count_of("/proc/self/fd") == before);
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    RUN(readable_as_long_as_there_is_something);
    RUN(readable_while_a_part_is_left);
    RUN(not_readable_for_half_a_code_point);
    RUN(one_thread_waits_for_many);
    RUN(descriptors_are_given_back);
    return 0;
}
