/* SPDX-License-Identifier: Apache-2.0 */
/* A request can be cancelled at any time, from any thread, and ends exactly once. */
#include <string.h>

#include "support.h"

static dynamo_runtime_t *start_endless(void) {
    return start(
        "{'engine': 'echo', 'options': {'repeat': 1000000000}, 'stream': {'capacity': 64}}");
}

static dynamo_runtime_t *start_stalled(void) {
    return start_script("[{'text': 'a'}, {'stall': true}]");
}

static void check_cancelled(dynamo_request_t *request) {
    for (int i = 0; i < 2; ++i) {
        answer whole = receive_all(request);
        CHECK_STATUS(whole.status, DYNAMO_ERROR_CANCELLED);
        CHECK_CONTAINS(dynamo_last_error(), "cancelled");
        CHECK_TEXT(whole.finish_reason, "");
        answer_free(&whole);
    }
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_ERROR_CANCELLED);
    CHECK_CONTAINS(dynamo_request_error_json(request), "DYNAMO_ERROR_CANCELLED");
}

static void shut_down(dynamo_runtime_t *runtime, long long ended, long long cancelled) {
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(statistic(runtime, "in_flight") == 0);
    CHECK(statistic(runtime, "sent") == ended + cancelled);
    CHECK(statistic(runtime, "ended") == ended);
    CHECK(statistic(runtime, "cancelled") == cancelled);
    CHECK(statistic(runtime, "failed") == 0);
    dynamo_runtime_destroy(runtime);
}

static void before_it_is_sent(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = say("a");
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    for (int i = 0; i < 2; ++i) {
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_CANCELLED);
    }
    check_cancelled(request);
    dynamo_request_destroy(request);
    shut_down(runtime, 0, 0);
}

static void in_the_middle_and_twice(void) {
    dynamo_runtime_t *runtime = start_endless();
    dynamo_request_t *request = sent(runtime, say("a"));
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK(response != NULL);
    dynamo_free(response);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    check_cancelled(request);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_INVALID_STATE);
    dynamo_request_destroy(request);
    shut_down(runtime, 0, 1);
}

static void while_it_waits_its_turn(void) {
    dynamo_runtime_t *runtime = start_script("[{'delay_ms': 1e9}, {'text': 'late'}]");
    dynamo_request_t *requests[50];
    for (int i = 0; i < 50; ++i) {
        requests[i] = sent(runtime, say("a"));
    }
    for (int i = 0; i < 50; ++i) {
        CHECK_STATUS(dynamo_request_cancel(requests[i]), DYNAMO_OK);
        check_cancelled(requests[i]);
        dynamo_request_destroy(requests[i]);
    }
    shut_down(runtime, 0, 50);
}

static void after_the_end(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = sent(runtime, say("a b"));
    EVENTUALLY(dynamo_request_status(request) == DYNAMO_END);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_END);
    check_answer(request, "a b", DYNAMO_END); /* no text is lost */
    shut_down(runtime, 1, 0);
}

static counter waiting;
static counter cancelled_readers;

static void *receive_until_cancelled(void *request) {
    add(&waiting, 1);
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        dynamo_free(response);
    }
    /* INVALID_HANDLE: this thread started only after the request was destroyed. */
    if (dynamo_last_status() != DYNAMO_ERROR_INVALID_HANDLE) {
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_CANCELLED);
        add(&cancelled_readers, 1);
    }
    return NULL;
}

static void from_outside_while_threads_receive(void (*end)(dynamo_request_t *), int repeat) {
    dynamo_runtime_t *runtime = start_stalled();
    for (int i = 0; i < repeat; ++i) {
        dynamo_request_t *request = sent(runtime, say("a"));
        const long before = get(&waiting);
        pthread_t readers[3];
        for (int r = 0; r < 3; ++r) {
            readers[r] = spawn(receive_until_cancelled, request);
        }
        EVENTUALLY(get(&waiting) == before + 3);
        usleep(i % 2 == 0 ? 2000 : 0); /* usually all are in recv() by now; both cases must work */
        end(request);
        for (int r = 0; r < 3; ++r) {
            join(readers[r]);
        }
        dynamo_request_destroy(request);
    }
    CHECK(get(&cancelled_readers) > 0);
    shut_down(runtime, 0, repeat);
}

static void cancel(dynamo_request_t *request) {
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
}

static void cancelled_while_threads_receive(void) {
    from_outside_while_threads_receive(cancel, 40);
    CHECK(get(&cancelled_readers) == 3 * 40);
    RELIABILITY("a request is cancelled while three threads wait for it", 40,
                "CANCELLED in each, at once");
}

static void destroyed_while_threads_receive(void) {
    from_outside_while_threads_receive(dynamo_request_destroy, 40);
    RELIABILITY("a request is destroyed while three threads wait for it", 40,
                "CANCELLED in those that waited, INVALID_HANDLE in those that came late");
}

static dynamo_runtime_t *racing_runtime;

static void *cancel_thread(void *request) {
    cancel(request);
    return NULL;
}

static void cancelled_while_it_is_sent(void) {
    racing_runtime = start_endless();
    long long sent_count = 0;
    for (int i = 0; i < 300; ++i) {
        dynamo_request_t *request = say("a");
        pthread_t other = spawn(cancel_thread, request);
        const int32_t status = dynamo_request_send(racing_runtime, request);
        CHECK(status == DYNAMO_OK || status == DYNAMO_ERROR_CANCELLED);
        sent_count += status == DYNAMO_OK;
        join(other);
        check_cancelled(request);
        dynamo_request_destroy(request);
    }
    shut_down(racing_runtime, 0, sent_count);
    RELIABILITY("a request is cancelled in another thread while it is being sent", 300,
                "it ended with CANCELLED once, or was not sent");
}

static void shutdown_drains(void) {
    dynamo_runtime_t *runtime = start_script("[{'text': 'a'}, {'delay_ms': 50}, {'text': 'b'}]");
    dynamo_request_t *request = sent(runtime, say("x"));
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, 100000), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_END);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, 0), DYNAMO_OK);
    dynamo_request_t *late = say("y");
    CHECK_STATUS(dynamo_request_send(runtime, late), DYNAMO_ERROR_CLOSED);
    CHECK_CONTAINS(dynamo_last_error_json(), "\"fatal\":true");
    dynamo_runtime_t *other = start_echo(); /* unchanged, so it may be sent to another runtime */
    check_answer(sent(other, late), "y", DYNAMO_END);
    dynamo_runtime_destroy(other);
    check_answer(request, "ab", DYNAMO_END);
    shut_down(runtime, 1, 0);
}

static void shutdown_cancels_what_is_left(void) {
    dynamo_runtime_t *runtime = start_stalled();
    dynamo_request_t *requests[10];
    for (int i = 0; i < 10; ++i) {
        requests[i] = sent(runtime, say("x"));
        dynamo_free(dynamo_request_recv(requests[i])); /* it is running */
    }
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, 0), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    CHECK_CONTAINS(dynamo_last_error(), "10 request(s)");
    for (int i = 0; i < 10; ++i) {
        check_cancelled(requests[i]);
        CHECK_CONTAINS(dynamo_request_error(requests[i]), "shut down");
        dynamo_request_destroy(requests[i]);
    }
    shut_down(runtime, 0, 10);
}

/* Once a receiver has seen the end, the statistics include it and shutdown need not wait for the request. */
static void the_end_is_the_end(void) {
    for (int i = 0; i < 500; ++i) {
        dynamo_runtime_t *runtime = start_echo();
        check_answer(sent(runtime, say("a")), "a", DYNAMO_END);
        CHECK(statistic(runtime, "in_flight") == 0 && statistic(runtime, "ended") == 1);
        CHECK(statistic(runtime, "pushed") == 1 && statistic(runtime, "received") == 1);
        CHECK_STATUS(dynamo_runtime_shutdown(runtime, 0), DYNAMO_OK);
        dynamo_runtime_destroy(runtime);
    }
}

static void *shutdown_thread(void *runtime) {
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    return NULL;
}

static void shutdown_from_several_threads(void) {
    dynamo_runtime_t *runtime = start_stalled();
    dynamo_request_t *request = sent(runtime, say("x"));
    pthread_t threads[3];
    for (int i = 0; i < 3; ++i) {
        threads[i] = spawn(shutdown_thread, runtime);
    }
    cancel(request);
    for (int i = 0; i < 3; ++i) {
        join(threads[i]);
    }
    dynamo_request_destroy(request);
    shut_down(runtime, 0, 1);
}

static void the_runtime_destroyed_meanwhile(void) {
    for (int i = 0; i < 50; ++i) {
        dynamo_runtime_t *runtime = start_endless();
        dynamo_request_t *request = sent(runtime, say("a"));
        dynamo_runtime_destroy(runtime);
        dynamo_response_t *response = dynamo_request_recv(request);
        CHECK(response != NULL);
        dynamo_free(response);
        if (i % 2 == 0) {
            cancel(request);
            check_cancelled(request);
        }
        dynamo_request_destroy(request);
    }
    RELIABILITY("a runtime is destroyed while a request streams", 50,
                "the request went on, and could be cancelled");
}

static dynamo_usage_t usage_of(dynamo_request_t *request) {
    dynamo_usage_t usage = {sizeof usage, 9, 9, 9};
    CHECK_STATUS(dynamo_request_usage(request, &usage), DYNAMO_OK);
    return usage;
}

static void check_counts(dynamo_request_t *request, int32_t status, uint64_t completion_tokens) {
    EVENTUALLY(dynamo_request_status(request) == status);
    const dynamo_usage_t usage = usage_of(request);
    CHECK(usage.prompt_tokens == 0 && usage.cached_tokens == 0);
    CHECK(usage.completion_tokens == completion_tokens);
    dynamo_timing_t timing = {sizeof timing, 0, 0, 0};
    CHECK_STATUS(dynamo_request_timing(request, &timing), DYNAMO_OK);
    CHECK(timing.first_token_us >= 0 && timing.total_us >= timing.first_token_us);
    dynamo_request_destroy(request);
}

/* Whoever pays for tokens also pays for those of an answer that did not come to its end. */
static void tokens_are_counted_whatever_ends_the_request(void) {
    const char *const script = "[{'text': 'a'}, {'text': 'b'}, {'text': 'c'}, {'stall': true}]";
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_request_t *request = say_script(script);
    CHECK(usage_of(request).completion_tokens == 0);
    sent(runtime, request);
    EVENTUALLY(usage_of(request).completion_tokens == 3);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    check_counts(request, DYNAMO_ERROR_CANCELLED, 3);

    request = say_script(script);
    CHECK_STATUS(dynamo_request_set_deadlines(request, -1, 50), DYNAMO_OK);
    check_counts(sent(runtime, request), DYNAMO_ERROR_DEADLINE_EXCEEDED, 3);

    request = say_script("[{'text': 'a'}, {'error': {'status': 'OVERLOADED', 'message': 'm'}}]");
    check_counts(sent(runtime, request), DYNAMO_ERROR_OVERLOADED, 1);

    request = say_script("[{'text': 'a'}, {'text': 'b'}]");
    answer whole = receive_all(sent(runtime, request));
    CHECK(whole.has_usage);
    const dynamo_usage_t usage = usage_of(request);
    CHECK(usage.prompt_tokens == whole.usage.prompt_tokens && usage.prompt_tokens > 0);
    CHECK(usage.completion_tokens == whole.usage.completion_tokens);
    answer_free(&whole);

    dynamo_usage_t short_one = {8, 1, 1, 1};
    CHECK_STATUS(dynamo_request_usage(request, &short_one), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "set it to sizeof(dynamo_usage_t)");
    CHECK_STATUS(dynamo_request_usage(request, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    RUN(before_it_is_sent);
    RUN(in_the_middle_and_twice);
    RUN(while_it_waits_its_turn);
    RUN(after_the_end);
    RUN(cancelled_while_threads_receive);
    RUN(destroyed_while_threads_receive);
    RUN(cancelled_while_it_is_sent);
    RUN(shutdown_drains);
    RUN(the_end_is_the_end);
    RUN(shutdown_cancels_what_is_left);
    RUN(shutdown_from_several_threads);
    RUN(the_runtime_destroyed_meanwhile);
    RUN(tokens_are_counted_whatever_ends_the_request);
    return 0;
}
