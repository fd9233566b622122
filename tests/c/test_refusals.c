/* SPDX-License-Identifier: Apache-2.0 */
/* An engine rejects a request although it, or another of its threads, has used or ended the stream. The request must
 * be unchanged: it can be sent again, and its answer contains nothing from the rejected attempt. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

enum use { NOTHING, PUSH, FINISH, FAIL, PUSH_AND_FINISH, OVERFLOW, USES };
static const char *const use_names[] = {
    "nothing", "a push", "an end", "an error", "a push and an end", "more than the stream holds"};

static enum use first;           /* what generate() does with the stream before it rejects */
static counter refusals_left;    /* afterwards it accepts, and answers "right" */
static dynamo_stream_t *refused; /* the latest */
static dynamo_stream_t *handed;  /* for the other thread; taken by atomic exchange */
static counter is_over;

static int32_t push(dynamo_stream_t *stream, const char *text) {
    const dynamo_chunk_t chunk = {
        .struct_size = sizeof chunk, .text = text, .text_length = strlen(text), .token_count = 1};
    return dynamo_stream_push(stream, &chunk);
}

static int32_t refuser_start(void *user, const char *config, void **instance) {
    (void)user, (void)config;
    *instance = &first;
    return DYNAMO_OK;
}

static int32_t refuser_generate(void *instance, dynamo_stream_t *stream, const char *id,
                                const char *body) {
    (void)instance, (void)id, (void)body;
    if (add(&refusals_left, -1) < 0) {
        CHECK_STATUS(push(stream, "right"), DYNAMO_OK);
        return dynamo_stream_finish(stream, "length", NULL);
    }
    refused = stream;
    if (first == PUSH || first == PUSH_AND_FINISH) {
        CHECK_STATUS(push(stream, "wrong"), DYNAMO_OK);
    }
    if (first == FINISH || first == PUSH_AND_FINISH) {
        CHECK_STATUS(dynamo_stream_finish(stream, "stop", NULL), DYNAMO_OK);
        CHECK_STATUS(push(stream, "late"), DYNAMO_ERROR_INVALID_HANDLE);
    }
    if (first == FAIL) {
        CHECK_STATUS(dynamo_stream_fail(stream, DYNAMO_ERROR_INTERNAL, "broken", NULL), DYNAMO_OK);
    }
    if (first == OVERFLOW) {
        while (push(stream, "wrong") == DYNAMO_OK) {
        }
    }
    return dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, "not now", NULL);
}

static void refuser_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void refuser_stop(void *instance) {
    (void)instance;
}

static const dynamo_engine_t refuser = {
    .struct_size = sizeof refuser,
    .start = refuser_start,
    .generate = refuser_generate,
    .cancel = refuser_cancel,
    .stop = refuser_stop,
};

static void check_late_uses(dynamo_stream_t *stream) {
    int64_t left;
    CHECK_STATUS(push(stream, "late"), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_wait(stream, 0), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_is_cancelled(stream), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_remaining(stream, &left), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_finish(stream, NULL, NULL), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_fail(stream, DYNAMO_ERROR_INTERNAL, "late", NULL),
                 DYNAMO_ERROR_INVALID_HANDLE);
}

static void check_metric(dynamo_runtime_t *runtime, const char *line) {
    char *const text = dynamo_runtime_metrics(runtime);
    CHECK_CONTAINS(text, line);
    dynamo_free(text);
}

static void check_counts(dynamo_runtime_t *runtime, long long sent, long long cancelled) {
    CHECK(statistic(runtime, "sent") == sent && statistic(runtime, "ended") == sent - cancelled);
    CHECK(statistic(runtime, "cancelled") == cancelled && statistic(runtime, "failed") == 0);
    CHECK(statistic(runtime, "in_flight") == 0 && statistic(runtime, "queued") == 0);
}

/* ---------------------------------------------------------------------- generate() itself */

enum way { RECEIVE, CALL_BACK, QUEUE, WAYS };

static counter events, ends, releases;
static char called[64];

static void on_event(void *user, dynamo_request_t *request, dynamo_response_t *response,
                     int32_t status) {
    (void)user, (void)request;
    add(&events, 1);
    if (response != NULL) {
        strncat(called, dynamo_response_text(response, NULL), sizeof called - strlen(called) - 1);
        dynamo_free(response);
    } else {
        CHECK_STATUS(status, DYNAMO_END);
        add(&ends, 1);
    }
}

static void check_right(enum way way, dynamo_request_t *request, dynamo_queue_t *queue) {
    if (way == RECEIVE) {
        check_answer(request, "right", DYNAMO_END);
        return;
    }
    if (way == CALL_BACK) {
        EVENTUALLY(get(&releases) == 1);
        CHECK(get(&events) == 2 && get(&ends) == 1);
    }
    if (way == QUEUE) {
        dynamo_event_t event = {.struct_size = sizeof event};
        CHECK_STATUS(dynamo_queue_next(queue, -1, &event), DYNAMO_OK);
        CHECK(event.response != NULL);
        CHECK_TEXT(dynamo_response_text(event.response, NULL), "right");
        dynamo_free(event.response);
        CHECK_STATUS(dynamo_queue_next(queue, -1, &event), DYNAMO_OK);
        CHECK(event.response == NULL && event.status == DYNAMO_END);
        CHECK_STATUS(dynamo_queue_next(queue, 0, &event), DYNAMO_PENDING);
    }
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_END);
    dynamo_request_destroy(request);
}

static void check_refusals(enum use use, enum way way) {
    dynamo_runtime_t *runtime =
        start("{'engine': 'refuser', 'stream': {'capacity': 4, 'when_full': 'fail'}}");
    dynamo_queue_t *queue = dynamo_queue_create();
    dynamo_request_t *request = say("x");
    memset(called, 0, sizeof called);
    events.value = ends.value = releases.value = 0;
    if (way == CALL_BACK) {
        CHECK_STATUS(dynamo_request_set_callback(request, on_event, &releases, count_release),
                     DYNAMO_OK);
    }
    if (way == QUEUE) {
        CHECK_STATUS(dynamo_request_set_queue(request, queue, NULL), DYNAMO_OK);
    }
    first = use;
    refusals_left.value = 2;
    for (int i = 0; i < 2; ++i) {
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_OVERLOADED);
        CHECK_TEXT(dynamo_last_error(), "not now");
        CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
        check_late_uses(refused);
        dynamo_response_t *response;
        CHECK_STATUS(dynamo_request_next(request, 0, &response),
                     DYNAMO_ERROR_OVERLOADED); /* the reason for the rejection */
        dynamo_timing_t timing = {.struct_size = sizeof timing};
        CHECK_STATUS(dynamo_request_timing(request, &timing), DYNAMO_OK);
        CHECK(timing.queue_us == -1 && timing.first_token_us == -1 && timing.total_us == -1);
    }
    check_counts(runtime, 0, 0);
    check_metric(runtime, "engine=\"refuser\",status=\"overloaded\"} 2\n");
    check_metric(runtime,
                 "dynamo_llm_completion_tokens_total{model=\"refuser\",engine=\"refuser\"} 0\n");
    check_metric(runtime,
                 "dynamo_llm_streams_full_total{model=\"refuser\",engine=\"refuser\"} 0\n");
    check_metric(runtime,
                 "dynamo_llm_queue_seconds_count{model=\"refuser\",engine=\"refuser\"} 0\n");
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_OK);
    check_right(way, request, queue);
    check_counts(runtime, 1, 0);
    check_metric(runtime,
                 "dynamo_llm_completion_tokens_total{model=\"refuser\",engine=\"refuser\"} 1\n");
    check_metric(runtime,
                 "dynamo_llm_queue_seconds_count{model=\"refuser\",engine=\"refuser\"} 1\n");
    dynamo_queue_destroy(queue);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
}

static void refused_after_each_use(void) {
    for (int use = NOTHING; use < USES; ++use) {
        for (int way = RECEIVE; way < WAYS; ++way) {
            fprintf(stderr, "    %s, way %d\n", use_names[use], way);
            check_refusals(use, way);
        }
    }
    RELIABILITY(
        "an engine in C refuses a request whose stream it has used or ended in the same call",
        2LL * USES * WAYS,
        "the status that it says; its handle was stale, and the next send had the whole answer");
}

/* The request was queued in the runtime, so send() cannot return the rejection: the request ends with it. */
static void refused_from_the_queue(void) {
    for (int use = NOTHING; use < OVERFLOW; ++use) {
        dynamo_runtime_t *runtime = start(
            "{'limits': {'max_concurrent': 1, 'max_queued': 9}, 'models': ["
            "{'name': 'blocker', 'engine': 'scripted'}, {'name': 'it', 'engine': 'refuser'}]}");
        first = use;
        refusals_left.value = 1;
        dynamo_request_t *blocker =
            sent(runtime, ask("{'model': 'blocker', 'prompt': '[{\\'stall\\': true}]'}"));
        dynamo_request_t *request = sent(runtime, ask("{'model': 'it', 'prompt': 'x'}"));
        dynamo_request_destroy(blocker);
        check_answer(request, use == PUSH || use == PUSH_AND_FINISH ? "wrong" : "",
                     DYNAMO_ERROR_OVERLOADED);
        check_late_uses(refused);
        CHECK(statistic(runtime, "failed") == 1 && statistic(runtime, "ended") == 0);
        CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
        dynamo_runtime_destroy(runtime);
    }
}

/* ---------------------------------------------------------------------- another thread of the engine */

static void wander(unsigned *seed) {
    for (volatile int i = rand_r(seed) % 300; i > 0; --i) {
    }
}

static int32_t racer_generate(void *instance, dynamo_stream_t *stream, const char *id,
                              const char *body) {
    static unsigned seed = 1;
    (void)instance, (void)id, (void)body;
    __atomic_store_n(&handed, stream, __ATOMIC_RELEASE);
    wander(&seed);
    return dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, "not now", NULL);
}

static void check_either(int32_t status) {
    CHECK(status == DYNAMO_OK || status == DYNAMO_PENDING ||
          status == DYNAMO_ERROR_INVALID_HANDLE || status == DYNAMO_ERROR_CANCELLED);
}

static void *use_the_stream(void *argument) {
    unsigned seed = 7;
    (void)argument;
    while (get(&is_over) == 0) {
        dynamo_stream_t *const stream = __atomic_exchange_n(&handed, NULL, __ATOMIC_ACQUIRE);
        if (stream == NULL) {
            continue;
        }
        int64_t left;
        wander(&seed);
        check_either(push(stream, "wrong"));
        switch (rand_r(&seed) % 6) {
            case 0:
                check_either(dynamo_stream_finish(stream, "stop", NULL));
                break;
            case 1:
                check_either(dynamo_stream_fail(stream, DYNAMO_ERROR_INTERNAL, "broken", NULL));
                break;
            case 2:
                while (push(stream, "wrong") == DYNAMO_OK) {
                }
                check_either(dynamo_stream_wait(stream, -1)); /* the rejection must end the wait */
                break;
            case 3:
                check_either(dynamo_stream_remaining(stream, &left));
                break;
            case 4:
                while (push(stream, "wrong") == DYNAMO_OK) {
                }
                break;
            default: {
                const int32_t is_cancelled = dynamo_stream_is_cancelled(stream);
                CHECK(is_cancelled == 0 || is_cancelled == 1 ||
                      is_cancelled == DYNAMO_ERROR_INVALID_HANDLE);
            }
        }
        EVENTUALLY(dynamo_stream_is_cancelled(stream) == DYNAMO_ERROR_INVALID_HANDLE);
    }
    return NULL;
}

static void check_race(const char *config, int rounds) {
    dynamo_engine_t racer = refuser;
    racer.generate = racer_generate;
    CHECK_STATUS(dynamo_engine_register("racer", &racer, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *runtime = start(config);
    dynamo_runtime_t *echo = start_echo();
    is_over.value = 0;
    const pthread_t thread = spawn(use_the_stream, NULL);
    for (int i = 0; i < rounds; ++i) {
        dynamo_request_t *request = say("it is right");
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_OVERLOADED);
        CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
        /* Sent again immediately: the other thread may be about to use the stream of the rejected attempt. */
        CHECK_STATUS(dynamo_request_send(echo, request), DYNAMO_OK);
        check_answer(request, "it is right", DYNAMO_END);
    }
    add(&is_over, 1);
    join(thread);
    check_counts(runtime, 0, 0);
    check_counts(echo, rounds, 0);
    char line[128];
    snprintf(line, sizeof line, "engine=\"racer\",status=\"overloaded\"} %d\n", rounds);
    check_metric(runtime, line);
    check_metric(runtime,
                 "dynamo_llm_completion_tokens_total{model=\"racer\",engine=\"racer\"} 0\n");
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    dynamo_runtime_destroy(echo);
    CHECK_STATUS(dynamo_engine_unregister("racer"), DYNAMO_OK);
}

static void refused_while_another_thread_uses_it(void) {
    const int rounds = (int)(4000 * scale());
    check_race("{'engine': 'racer'}", rounds);
    check_race("{'engine': 'racer', 'stream': {'capacity': 2}}", rounds);
    check_race("{'engine': 'racer', 'stream': {'capacity': 2, 'when_full': 'fail'}}", rounds);
    RELIABILITY(
        "an engine in C refuses a request while another thread of it pushes to, waits for, ends or "
        "fails the stream",
        3LL * rounds,
        "late uses were INVALID_HANDLE; the request was sent elsewhere at once, and had its whole "
        "answer");
}

static void *cancel_it(void *request) {
    dynamo_request_cancel(request);
    return NULL;
}

/* The caller cancels while the engine rejects: the request is cancelled, and is counted only as rejected. */
static void refused_while_it_is_cancelled(void) {
    const int rounds = (int)(500 * scale());
    dynamo_engine_t racer = refuser;
    racer.generate = racer_generate;
    CHECK_STATUS(dynamo_engine_register("racer", &racer, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *runtime = start("{'engine': 'racer'}");
    is_over.value = 0;
    const pthread_t thread = spawn(use_the_stream, NULL);
    for (int i = 0; i < rounds; ++i) {
        dynamo_request_t *request = say("x");
        const pthread_t canceller = spawn(cancel_it, request);
        const int32_t status = dynamo_request_send(runtime, request);
        CHECK(status == DYNAMO_ERROR_OVERLOADED || status == DYNAMO_ERROR_CANCELLED);
        join(canceller);
        CHECK_STATUS(dynamo_request_status(request), DYNAMO_ERROR_CANCELLED);
        dynamo_response_t *response;
        CHECK_STATUS(dynamo_request_next(request, -1, &response), DYNAMO_ERROR_CANCELLED);
        dynamo_request_destroy(request);
    }
    add(&is_over, 1);
    join(thread);
    check_counts(runtime, 0, 0);
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_engine_unregister("racer"), DYNAMO_OK);
}

int main(void) {
    BEGIN();
    CHECK_STATUS(dynamo_engine_register("refuser", &refuser, NULL, NULL), DYNAMO_OK);
    RUN(refused_after_each_use);
    RUN(refused_from_the_queue);
    RUN(refused_while_another_thread_uses_it);
    RUN(refused_while_it_is_cancelled);
    return 0;
}
