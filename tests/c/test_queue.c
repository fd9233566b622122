/* SPDX-License-Identifier: Apache-2.0 */
/* Completion queues: one object to wait for many requests. */
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "dynamo_llm/engine.h"
#include "support.h"

static dynamo_event_t next(dynamo_queue_t *queue, int64_t timeout_ms, int32_t status) {
    dynamo_event_t event = {sizeof event, NULL, NULL, NULL, 0};
    CHECK_STATUS(dynamo_queue_next(queue, timeout_ms, &event), status);
    return event;
}

static dynamo_queue_t *new_queue(void) {
    dynamo_queue_t *queue = dynamo_queue_create();
    CHECK(queue != NULL);
    return queue;
}

static dynamo_request_t *queued(dynamo_request_t *request, dynamo_queue_t *queue, void *user) {
    CHECK_STATUS(dynamo_request_set_queue(request, queue, user), DYNAMO_OK);
    return request;
}

static void responses_and_then_one_end(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_queue_t *queue = new_queue();
    int user = 0;
    dynamo_request_t *request = sent(runtime, queued(say("a b c"), queue, &user));
    answer whole = {0};
    dynamo_event_t event;
    while (event = next(queue, -1, DYNAMO_OK), event.status == DYNAMO_OK) {
        CHECK(event.request == request && event.user == &user && event.response != NULL);
        add_response(&whole, event.response);
    }
    CHECK_STATUS(event.status, DYNAMO_END);
    CHECK(event.request == request && event.user == &user && event.response == NULL);
    CHECK_TEXT(whole.text, "a b c");
    CHECK_TEXT(whole.finish_reason, "stop");
    answer_free(&whole);
    next(queue, 10, DYNAMO_PENDING);
    next(queue, 0, DYNAMO_PENDING);
    dynamo_request_destroy(request);
    next(queue, 0, DYNAMO_PENDING);
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
}

static void errors_are_events(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_queue_t *queue = new_queue();
    dynamo_request_t *fails =
        sent(runtime, queued(say_script("[{'text': 'a'}, {'error': {'status': 'OVERLOADED', "
                                        "'message': 'too much'}}]"),
                             queue, NULL));
    dynamo_event_t event = next(queue, -1, DYNAMO_OK);
    CHECK_STATUS(event.status, DYNAMO_OK);
    CHECK_TEXT(dynamo_response_text(event.response, NULL), "a");
    dynamo_free(event.response);
    event = next(queue, -1, DYNAMO_OK);
    CHECK_STATUS(event.status, DYNAMO_ERROR_OVERLOADED);
    CHECK(event.request == fails && event.response == NULL);
    CHECK_CONTAINS(dynamo_request_error(fails), "too much");
    dynamo_request_destroy(fails);

    dynamo_request_t *stalls =
        sent(runtime, queued(say_script("[{'stall': true}]"), queue, &queue));
    next(queue, 10, DYNAMO_PENDING);
    CHECK_STATUS(dynamo_request_cancel(stalls), DYNAMO_OK);
    event = next(queue, -1, DYNAMO_OK);
    CHECK_STATUS(event.status, DYNAMO_ERROR_CANCELLED);
    CHECK(event.request == stalls && event.user == &queue);
    dynamo_request_destroy(stalls);

    dynamo_request_t *unsent = queued(say_script("[]"), queue, NULL);
    CHECK_STATUS(dynamo_request_cancel(unsent), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_send(runtime, unsent), DYNAMO_ERROR_CANCELLED);
    event = next(queue, -1, DYNAMO_OK);
    CHECK_STATUS(event.status, DYNAMO_ERROR_CANCELLED);
    CHECK(event.request == unsent);
    dynamo_request_destroy(unsent);
    next(queue, 10, DYNAMO_PENDING);
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
}

static void nothing_of_a_request_that_was_destroyed(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_queue_t *queue = new_queue();
    dynamo_request_t *gone =
        sent(runtime, queued(say_script("[{'text': 'a'}, {'stall': true}]"), queue, NULL));
    EVENTUALLY(statistic(runtime, "pushed") == 1);
    dynamo_request_destroy(gone);
    dynamo_request_t *stays = sent(runtime, queued(say_script("[{'text': 'b'}]"), queue, NULL));
    dynamo_event_t event;
    do { /* text and terminal event, in one event or two */
        event = next(queue, -1, DYNAMO_OK);
        CHECK(event.request == stays);
        dynamo_free(event.response);
    } while (event.status == DYNAMO_OK);
    CHECK_STATUS(event.status, DYNAMO_END);
    next(queue, 20, DYNAMO_PENDING);
    dynamo_request_destroy(stays);
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
}

static void mistakes(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_queue_t *queue = new_queue();
    counter calls = {0};
    dynamo_request_t *request = queued(say("a"), queue, NULL);
    CHECK_STATUS(dynamo_request_set_queue(request, queue, NULL), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "already has a queue");
    CHECK_STATUS(dynamo_request_set_callback(
                     request, (dynamo_response_callback_t)(void (*)(void))count_release, &calls,
                     count_release),
                 DYNAMO_ERROR_INVALID_STATE);
    sent(runtime, request);
    dynamo_response_t *response;
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "dynamo_queue_next()");
    CHECK(dynamo_request_recv(request) == NULL);
    CHECK(dynamo_request_fd(request) == -1);
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_set_queue(request, queue, NULL), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "already sent");
    CHECK(get(&calls) == 0);

    dynamo_event_t event = {0, NULL, NULL, NULL, 0};
    CHECK_STATUS(dynamo_queue_next(queue, 0, &event), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "sizeof(dynamo_event_t)");
    CHECK_STATUS(dynamo_queue_next(queue, 0, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    event.struct_size = sizeof event;
    CHECK_STATUS(dynamo_queue_next(queue, -2, &event), DYNAMO_ERROR_INVALID_ARGUMENT);
    event = next(queue, -1, DYNAMO_OK); /* no event was lost */
    CHECK_TEXT(dynamo_response_text(event.response, NULL), "a");
    dynamo_free(event.response);
    dynamo_request_destroy(request);
    dynamo_queue_destroy(queue);
    dynamo_queue_destroy(NULL);
    dynamo_runtime_destroy(runtime);
}

static void *wait_for_closed(void *queue) {
    dynamo_event_t event = {sizeof event, NULL, NULL, NULL, 0};
    const int32_t status = dynamo_queue_next(queue, -1, &event);
    CHECK(status == DYNAMO_ERROR_CLOSED || status == DYNAMO_ERROR_INVALID_HANDLE);
    return NULL;
}

static void destroying_a_queue_ends_waits(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    for (int round = 0; round < 20; ++round) {
        dynamo_queue_t *queue = new_queue();
        dynamo_request_t *request =
            sent(runtime, queued(say_script("[{'stall': true}]"), queue, NULL));
        pthread_t threads[3];
        for (int i = 0; i < 3; ++i) {
            threads[i] = spawn(wait_for_closed, queue);
        }
        dynamo_queue_destroy(queue);
        for (int i = 0; i < 3; ++i) {
            join(threads[i]);
        }
        CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING); /* it is still running */
        dynamo_request_destroy(request);
    }
    /* Events that were not taken are freed with the queue; later events are dropped. */
    dynamo_queue_t *queue = new_queue();
    dynamo_request_t *requests[10];
    for (int i = 0; i < 10; ++i) {
        requests[i] = sent(
            runtime,
            queued(say_script("[{'text': 'a'}, {'delay_ms': 20}, {'text': 'b'}]"), queue, NULL));
    }
    EVENTUALLY(statistic(runtime, "pushed") >= 5);
    dynamo_queue_destroy(queue);
    for (int i = 0; i < 10; ++i) {
        EVENTUALLY(dynamo_request_status(requests[i]) == DYNAMO_END);
        dynamo_request_destroy(requests[i]);
    }
    dynamo_runtime_destroy(runtime);
}

/* Many requests, and readers that share a queue: each response goes to exactly one reader. */
enum { request_count = 200 };

typedef struct reading {
    dynamo_queue_t *queue;
    counter tokens;
    counter ends;
} reading;

static void *read_all(void *argument) {
    reading *me = argument;
    dynamo_event_t event = {sizeof event, NULL, NULL, NULL, 0};
    while (get(&me->ends) < request_count) {
        const int32_t status = dynamo_queue_next(me->queue, 20, &event);
        if (status == DYNAMO_PENDING) {
            continue;
        }
        CHECK_STATUS(status, DYNAMO_OK);
        if (event.response != NULL) {
            size_t count = 0;
            dynamo_response_token_ids(event.response, &count);
            add(&me->tokens, (long)count);
            dynamo_free(event.response);
        } else {
            CHECK_STATUS(event.status, DYNAMO_END);
            add((counter *)event.user, 1);
            add(&me->ends, 1);
        }
    }
    return NULL;
}

static void none_gets_lost(const char *config, int readers) {
    dynamo_runtime_t *runtime = start(config);
    reading shared = {new_queue(), {0}, {0}};
    static counter ends[request_count];
    memset(ends, 0, sizeof ends);
    static dynamo_request_t *requests[request_count];
    pthread_t threads[4];
    for (int i = 0; i < readers; ++i) {
        threads[i] = spawn(read_all, &shared);
    }
    for (int i = 0; i < request_count; ++i) {
        requests[i] =
            sent(runtime, queued(say("a b c d e f g h i j k l m n o p"), shared.queue, &ends[i]));
    }
    for (int i = 0; i < readers; ++i) {
        join(threads[i]);
    }
    CHECK(get(&shared.tokens) == statistic(runtime, "pushed"));
    for (int i = 0; i < request_count; ++i) {
        CHECK(get(&ends[i]) == 1);
        dynamo_request_destroy(requests[i]);
    }
    dynamo_queue_destroy(shared.queue);
    dynamo_runtime_destroy(runtime);
}

static void one_reader(void) {
    none_gets_lost("{'engine': 'echo', 'stream': {'capacity': 2}}", 1);
    none_gets_lost("{'engine': 'echo'}", 1);
}

static void four_readers(void) {
    none_gets_lost("{'engine': 'echo', 'stream': {'capacity': 2}}", 4);
    none_gets_lost("{'engine': 'echo'}", 4);
}

/* An engine that pushes a response for each of four choices at once. */
static int32_t begin(void *user, const char *config_json, void **instance) {
    (void)user, (void)config_json, (void)instance;
    return DYNAMO_OK;
}

static int32_t four_choices(void *instance, dynamo_stream_t *stream, const char *id,
                            const char *body) {
    (void)instance, (void)id, (void)body;
    for (uint32_t index = 0; index < 4; ++index) {
        dynamo_chunk_t chunk = {0};
        chunk.struct_size = sizeof chunk;
        chunk.text = "a";
        chunk.text_length = 1;
        chunk.index = index;
        chunk.finish_reason = "stop";
        CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    }
    return dynamo_stream_finish(stream, NULL, NULL);
}

static void ignore_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop(void *instance) {
    (void)instance;
}

/* A request with many responses does not delay the others. */
static void requests_take_turns(void) {
    const dynamo_engine_t engine = {.struct_size = sizeof engine,
                                    .start = begin,
                                    .generate = four_choices,
                                    .cancel = ignore_cancel,
                                    .stop = stop};
    CHECK_STATUS(dynamo_engine_register("four", &engine, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *runtime = start("{'engine': 'four'}");
    dynamo_queue_t *queue = new_queue();
    dynamo_request_t *both[2];
    for (int i = 0; i < 2; ++i) {
        both[i] = queued(ask("{'prompt': 'x', 'n': 4, 'stream': true}"), queue, NULL);
        sent(runtime, both[i]);
    }
    for (int i = 0; i < 8; ++i) {
        dynamo_event_t event = next(queue, 0, DYNAMO_OK);
        CHECK_STATUS(event.status, DYNAMO_OK);
        CHECK(event.request == both[i % 2]);
        CHECK(dynamo_response_index(event.response) == (uint32_t)i / 2);
        dynamo_free(event.response);
    }
    for (int i = 0; i < 2; ++i) {
        CHECK_STATUS(next(queue, 0, DYNAMO_OK).status, DYNAMO_END);
        dynamo_request_destroy(both[i]);
    }
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_engine_unregister("four"), DYNAMO_OK);
}

/* A terminal event, which is all that a request with this queue delivers. */
static dynamo_request_t *cancelled(dynamo_queue_t *queue) {
    dynamo_request_t *request = queued(say("a"), queue, NULL);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    return request;
}

static void a_descriptor_is_readable_while_there_are_events(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_queue_t *queue = new_queue();
    const int fd = dynamo_queue_fd(queue);
    CHECK(fd >= 0 && dynamo_queue_fd(queue) == fd);
    CHECK(!readable(fd));
    dynamo_request_t *request =
        sent(runtime, queued(say_script("[{'text': 'a'}, {'stall': true}]"), queue, NULL));
    EVENTUALLY(readable(fd));
    CHECK(readable(fd)); /* level-triggered */
    dynamo_free(next(queue, 0, DYNAMO_OK).response);
    CHECK(!readable(fd)); /* already now, not only after a call without an event */
    next(queue, 0, DYNAMO_PENDING);
    CHECK(!readable(fd));
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    CHECK(readable(fd));
    dynamo_request_t *other = cancelled(queue);
    next(queue, 0, DYNAMO_OK);
    CHECK(readable(fd)); /* one event is left */
    next(queue, 0, DYNAMO_OK);
    CHECK(!readable(fd));
    dynamo_request_destroy(other);
    other = cancelled(queue);
    CHECK(readable(fd));
    dynamo_request_destroy(other); /* and its event with it */
    next(queue, 0, DYNAMO_PENDING);
    CHECK(!readable(fd));
    dynamo_request_destroy(request);
    dynamo_queue_destroy(queue);
    CHECK(dynamo_queue_fd(queue) == -1);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK(fcntl(fd, F_GETFD) == -1); /* the request that it served is gone, and the queue, too */

    queue = new_queue();
    request = cancelled(queue);
    CHECK(readable(dynamo_queue_fd(queue))); /* created after the event came */
    dynamo_queue_destroy(queue);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

/* One thread waits for a queue and for a pipe. No event may leave the descriptor silent. */
static void an_event_loop_waits_for_a_queue_and_a_pipe(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'stream': {'capacity': 2}}");
    dynamo_queue_t *queue = new_queue();
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pollfd ready[] = {{dynamo_queue_fd(queue), POLLIN, 0}, {ends[0], POLLIN, 0}};
    enum { count = 100 };
    static dynamo_request_t *requests[count];
    for (int i = 0; i < count; ++i) {
        requests[i] = sent(runtime, queued(say("a b c d e f g h"), queue, NULL));
    }
    long tokens = 0;
    for (int ended = 0, was_told = 0; ended < count || !was_told;) {
        CHECK(poll(ready, 2, -1) > 0);
        if (ready[1].revents != 0) {
            char byte;
            CHECK(read(ends[0], &byte, 1) == 1);
            was_told = 1;
        }
        dynamo_event_t event = {sizeof event, NULL, NULL, NULL, 0};
        while (dynamo_queue_next(queue, 0, &event) == DYNAMO_OK) {
            if (event.response == NULL) {
                CHECK_STATUS(event.status, DYNAMO_END);
                if (++ended == count / 2) {
                    CHECK(write(ends[1], "x", 1) == 1);
                }
                continue;
            }
            size_t some = 0;
            dynamo_response_token_ids(event.response, &some);
            tokens += (long)some;
            dynamo_free(event.response);
        }
    }
    CHECK(tokens == statistic(runtime, "pushed") && !readable(ready[0].fd));
    for (int i = 0; i < count; ++i) {
        dynamo_request_destroy(requests[i]);
    }
    close(ends[0]);
    close(ends[1]);
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
}

static void *wait_for_a_wake(void *queue) {
    next(queue, -1, DYNAMO_PENDING);
    return NULL;
}

static void each_wake_ends_one_wait(void) {
    dynamo_queue_t *queue = new_queue();
    const int fd = dynamo_queue_fd(queue);
    pthread_t threads[3];
    for (int i = 0; i < 3; ++i) {
        threads[i] = spawn(wait_for_a_wake, queue);
    }
    for (int i = 0; i < 3; ++i) {
        CHECK_STATUS(dynamo_queue_wake(queue), DYNAMO_OK);
    }
    for (int i = 0; i < 3; ++i) {
        join(threads[i]);
    }
    CHECK(!readable(fd));
    /* Nobody waits: the next calls get it, before the event, which stays. */
    dynamo_request_t *request = cancelled(queue);
    CHECK_STATUS(dynamo_queue_wake(queue), DYNAMO_OK);
    CHECK_STATUS(dynamo_queue_wake(queue), DYNAMO_OK);
    next(queue, -1, DYNAMO_PENDING);
    CHECK(readable(fd));
    next(queue, -1, DYNAMO_PENDING);
    CHECK(readable(fd));
    CHECK_STATUS(next(queue, -1, DYNAMO_OK).status, DYNAMO_ERROR_CANCELLED);
    CHECK(!readable(fd));
    CHECK_STATUS(dynamo_queue_wake(queue), DYNAMO_OK);
    CHECK(readable(fd)); /* so that a thread in poll() notices, too */
    next(queue, 0, DYNAMO_PENDING);
    CHECK(!readable(fd));
    dynamo_request_destroy(request);
    dynamo_queue_destroy(queue);
}

/* Readers under load are woken again and again; each wake ends one call, and no event is lost. */
static counter woken;

static void *read_all_and_count_wakes(void *argument) {
    reading *me = argument;
    dynamo_event_t event = {sizeof event, NULL, NULL, NULL, 0};
    int32_t status;
    while ((status = dynamo_queue_next(me->queue, -1, &event)) >= 0) {
        if (status == DYNAMO_PENDING) {
            add(&woken, 1);
            continue;
        }
        dynamo_free(event.response);
        add(&me->ends, event.response == NULL);
    }
    CHECK(status == DYNAMO_ERROR_CLOSED || status == DYNAMO_ERROR_INVALID_HANDLE);
    return NULL;
}

static void wakes_lose_no_event(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'stream': {'capacity': 2}}");
    reading shared = {new_queue(), {0}, {0}};
    static dynamo_request_t *requests[request_count];
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) {
        threads[i] = spawn(read_all_and_count_wakes, &shared);
    }
    for (int i = 0; i < request_count; ++i) {
        requests[i] = sent(runtime, queued(say("a b c d e f g h"), shared.queue, NULL));
        CHECK_STATUS(dynamo_queue_wake(shared.queue), DYNAMO_OK);
    }
    EVENTUALLY(get(&shared.ends) == request_count && get(&woken) == request_count);
    dynamo_queue_destroy(shared.queue);
    for (int i = 0; i < 2; ++i) {
        join(threads[i]);
    }
    for (int i = 0; i < request_count; ++i) {
        dynamo_request_destroy(requests[i]);
    }
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a completion queue is woken while two threads read 200 requests from it",
                request_count, "each wake ended one call, and no event was lost");
}

int main(void) {
    BEGIN();
    RUN(responses_and_then_one_end);
    RUN(errors_are_events);
    RUN(nothing_of_a_request_that_was_destroyed);
    RUN(mistakes);
    RUN(destroying_a_queue_ends_waits);
    RUN(one_reader);
    RUN(four_readers);
    RUN(requests_take_turns);
    RUN(a_descriptor_is_readable_while_there_are_events);
    RUN(an_event_loop_waits_for_a_queue_and_a_pipe);
    RUN(each_wake_ends_one_wait);
    RUN(wakes_lose_no_event);
    return 0;
}
