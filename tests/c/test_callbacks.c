/* SPDX-License-Identifier: Apache-2.0 */
/* A request's callback receives its events in order, then one terminal event, then the release. */
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { nothing, destroy_at_first, cancel_at_first, destroy_at_end };

/* What a callback has seen of its request. Only the library's callback thread writes it. */
typedef struct watch {
    answer whole;
    int what_to_do;
    counter terminal_events;
    counter releases;
    dynamo_request_t *request;
} watch;

static pthread_t callback_thread;
static counter running;

static void on_event(void *user, dynamo_request_t *request, dynamo_response_t *response,
                     int32_t status) {
    watch *seen = user;
    CHECK(add(&running, 1) == 1); /* calls never overlap */
    callback_thread = pthread_self();
    CHECK(request == seen->request);
    CHECK(get(&seen->terminal_events) == 0 && get(&seen->releases) == 0);
    if (response != NULL) {
        CHECK_STATUS(status, DYNAMO_OK);
        add_response(&seen->whole, response);
        if (seen->what_to_do == destroy_at_first) {
            dynamo_request_destroy(request);
            CHECK_STATUS(dynamo_request_status(request), DYNAMO_ERROR_INVALID_HANDLE);
        } else if (seen->what_to_do == cancel_at_first) {
            CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        }
    } else {
        CHECK(status != DYNAMO_OK && status != DYNAMO_PENDING);
        CHECK_STATUS(dynamo_request_status(request), status);
        seen->whole.status = status;
        if (seen->what_to_do == destroy_at_end) {
            dynamo_request_destroy(request);
        }
        add(&seen->terminal_events, 1);
    }
    add(&running, -1);
}

static void on_release(void *user) {
    watch *seen = user;
    CHECK(add(&seen->releases, 1) == 1);
}

static dynamo_request_t *observed(watch *seen, dynamo_request_t *request, int what_to_do) {
    memset(seen, 0, sizeof *seen);
    seen->request = request;
    seen->what_to_do = what_to_do;
    CHECK_STATUS(dynamo_request_set_callback(request, on_event, seen, on_release), DYNAMO_OK);
    return request;
}

/* Waits until the callback thread has delivered everything queued before this call. */
static void settle(dynamo_runtime_t *runtime) {
    watch last;
    observed(&last, say("settled"), nothing);
    sent(runtime, last.request);
    EVENTUALLY(get(&last.releases) == 1);
    dynamo_request_destroy(last.request);
    answer_free(&last.whole);
}

static void check_seen(watch *seen, const char *text, int32_t status) {
    EVENTUALLY(get(&seen->releases) == 1);
    CHECK(get(&seen->terminal_events) == 1);
    CHECK_STATUS(seen->whole.status, status);
    CHECK_TEXT(seen->whole.text == NULL ? "" : seen->whole.text, text);
    answer_free(&seen->whole);
}

static void responses_then_the_end_then_the_release(void) {
    dynamo_runtime_t *runtime = start_echo();
    watch seen;
    sent(runtime, observed(&seen, say("a b c"), nothing));
    check_seen(&seen, "a b c", DYNAMO_END);
    CHECK_TEXT(seen.whole.finish_reason, "stop");
    CHECK(!pthread_equal(callback_thread, pthread_self()));
    dynamo_request_destroy(seen.request);
    settle(runtime);
    CHECK(get(&seen.releases) == 1 && get(&seen.terminal_events) == 1);
    dynamo_runtime_destroy(runtime);
}

static void an_error_is_the_last_event(void) {
    dynamo_runtime_t *runtime = start_script("[{'text': 'a'}, {'error': {'message': 'broken'}}]");
    watch seen;
    sent(runtime, observed(&seen, say("x"), nothing));
    check_seen(&seen, "a", DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_TEXT(dynamo_request_error(seen.request), "broken");
    dynamo_request_destroy(seen.request);
    dynamo_runtime_destroy(runtime);
}

static void a_request_destroyed_in_its_callback(void) {
    dynamo_runtime_t *runtime =
        start("{'engine': 'echo', 'options': {'repeat': 1000000000}, 'stream': {'capacity': 4}}");
    watch seen;
    sent(runtime, observed(&seen, say("a"), destroy_at_first));
    EVENTUALLY(get(&seen.releases) == 1);
    CHECK(get(&seen.terminal_events) == 0 && seen.whole.responses == 1);
    answer_free(&seen.whole);
    sent(runtime, observed(&seen, say("a"), cancel_at_first));
    EVENTUALLY(get(&seen.releases) == 1);
    CHECK_STATUS(seen.whole.status, DYNAMO_ERROR_CANCELLED);
    CHECK(get(&seen.terminal_events) == 1 && seen.whole.responses <= 2);
    answer_free(&seen.whole);
    dynamo_request_destroy(seen.request);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);

    runtime = start_echo();
    sent(runtime, observed(&seen, say("a"), destroy_at_end));
    check_seen(&seen, "a", DYNAMO_END);
    settle(runtime);
    CHECK(get(&seen.releases) == 1);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a callback destroys, or cancels, its own request", 3,
                "no more responses came, and the release once");
}

static void the_other_ways_to_receive_are_closed(void) {
    dynamo_runtime_t *runtime = start_script("[{'text': 'a'}, {'stall': true}]");
    watch seen;
    watch second;
    observed(&seen, say("x"), nothing);
    CHECK_STATUS(dynamo_request_set_callback(seen.request, on_event, &second, on_release),
                 DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_set_callback(seen.request, NULL, NULL, NULL),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    sent(runtime, seen.request);
    dynamo_response_t *response;
    CHECK(dynamo_request_recv(seen.request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_next(seen.request, 0, &response), DYNAMO_ERROR_INVALID_STATE);
    CHECK(dynamo_request_fd(seen.request) == -1);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_cancel(seen.request), DYNAMO_OK);
    EVENTUALLY(get(&seen.releases) == 1);
    CHECK_STATUS(seen.whole.status, DYNAMO_ERROR_CANCELLED);
    answer_free(&seen.whole);
    dynamo_request_destroy(seen.request);

    dynamo_request_t *plain = sent(runtime, say("x"));
    CHECK_STATUS(dynamo_request_set_callback(plain, on_event, &second, on_release),
                 DYNAMO_ERROR_INVALID_STATE);
    dynamo_request_destroy(plain);
    dynamo_runtime_destroy(runtime);
}

static void what_was_never_sent_is_released(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    watch seen;
    dynamo_request_destroy(observed(&seen, say("x"), nothing));
    EVENTUALLY(get(&seen.releases) == 1);
    dynamo_request_cancel(observed(&seen, say("x"), nothing));
    CHECK_STATUS(dynamo_request_send(runtime, seen.request), DYNAMO_ERROR_CANCELLED);
    dynamo_request_destroy(seen.request);
    EVENTUALLY(get(&seen.releases) == 1);
    /* A request that the engine rejected can be sent again, or destroyed. */
    observed(&seen, say_script("[{'refuse': {'status': 'OVERLOADED', 'message': 'later'}}]"),
             nothing);
    CHECK_STATUS(dynamo_request_send(runtime, seen.request), DYNAMO_ERROR_OVERLOADED);
    CHECK_STATUS(dynamo_request_send(runtime, seen.request), DYNAMO_ERROR_OVERLOADED);
    CHECK(get(&seen.releases) == 0);
    dynamo_request_destroy(seen.request);
    EVENTUALLY(get(&seen.releases) == 1);
    CHECK(get(&seen.terminal_events) == 0);
    dynamo_runtime_destroy(runtime);
}

/* In any order: one terminal event, one release, and one call per notification. */
static void cancelled_before_it_is_sent(void) {
    dynamo_runtime_t *runtime = start_echo();
    const int rounds = (int)(200 * scale()) + 1;
    for (int i = 0; i < rounds; ++i) {
        watch seen;
        dynamo_request_cancel(observed(&seen, say("x"), nothing));
        check_seen(&seen, "", DYNAMO_ERROR_CANCELLED);
        CHECK_STATUS(dynamo_request_send(runtime, seen.request), DYNAMO_ERROR_CANCELLED);
        dynamo_request_destroy(seen.request);

        dynamo_request_t *request = say("x");
        CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        observed(&seen, request, nothing);
        check_seen(&seen, "", DYNAMO_ERROR_CANCELLED);
        CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        dynamo_request_destroy(request);

        counter calls = {0};
        request = say("x");
        CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_OK);
        if (i % 2 == 0) { /* even rounds: notified before the callback is set */
            EVENTUALLY(get(&calls) == 1);
        }
        observed(&seen, request, nothing);
        check_seen(&seen, "", DYNAMO_ERROR_CANCELLED);
        EVENTUALLY(get(&calls) == 1);
        CHECK_STATUS(dynamo_request_notify(request, count_release, &calls),
                     DYNAMO_ERROR_INVALID_STATE);
        dynamo_request_destroy(request);

        request = say("x");
        dynamo_queue_t *queue = dynamo_queue_create();
        CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_OK);
        CHECK_STATUS(dynamo_request_set_queue(request, queue, NULL), DYNAMO_OK);
        dynamo_event_t event = {sizeof event, NULL, NULL, NULL, 0};
        CHECK_STATUS(dynamo_queue_next(queue, -1, &event), DYNAMO_OK);
        CHECK_STATUS(event.status, DYNAMO_ERROR_CANCELLED);
        EVENTUALLY(get(&calls) == 2);
        dynamo_request_destroy(request);
        CHECK_STATUS(dynamo_queue_next(queue, 0, &event), DYNAMO_PENDING);
        dynamo_queue_destroy(queue);

        settle(runtime);
        CHECK(get(&calls) == 2 && get(&seen.terminal_events) == 1 && get(&seen.releases) == 1);
    }
    dynamo_request_t *finished = sent(runtime, say("x"));
    counter calls = {0};
    EVENTUALLY(dynamo_request_status(finished) == DYNAMO_END);
    CHECK_STATUS(dynamo_request_notify(finished, count_release, &calls), DYNAMO_OK);
    watch unused;
    CHECK_STATUS(dynamo_request_set_callback(finished, on_event, &unused, on_release),
                 DYNAMO_ERROR_INVALID_STATE);
    EVENTUALLY(get(&calls) == 1);
    dynamo_request_destroy(finished);
    dynamo_runtime_destroy(runtime);
    RELIABILITY(
        "a request is cancelled before it is sent, with a callback, a queue or a notification",
        5 * rounds, "exactly one call or event of each");
}

static void *destroy_thread(void *request) {
    dynamo_request_destroy(request);
    return NULL;
}

static void destroyed_while_it_is_sent(void) {
    static const char *const scripts[] = {"[{'text': 'a'}, {'stall': true}]",
                                          "[{'refuse': {'message': 'no'}}]"};
    for (int s = 0; s < 2; ++s) {
        dynamo_runtime_t *runtime = start_script(scripts[s]);
        for (int i = 0; i < 200; ++i) {
            watch seen;
            observed(&seen, say("x"), nothing);
            pthread_t other = spawn(destroy_thread, seen.request);
            dynamo_request_send(runtime, seen.request);
            join(other);
            EVENTUALLY(get(&seen.releases) == 1);
            CHECK(get(&seen.terminal_events) == 0);
            answer_free(&seen.whole);
        }
        CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
        dynamo_runtime_destroy(runtime);
    }
    RELIABILITY("a request with a callback is destroyed while it is being sent", 400,
                "its release came once, and no terminal event");
}

static void many_at_once(void) {
    enum { count = 200 };
    static watch all[count];
    dynamo_runtime_t *runtime =
        start("{'engine': 'echo', 'options': {'repeat': 50}, 'stream': {'capacity': 3}}");
    for (int i = 0; i < count; ++i) {
        sent(runtime, observed(&all[i], say("ab "), nothing));
    }
    for (int i = 0; i < count; ++i) {
        EVENTUALLY(get(&all[i].releases) == 1);
        CHECK(get(&all[i].terminal_events) == 1);
        CHECK_STATUS(all[i].whole.status, DYNAMO_END);
        CHECK(all[i].whole.token_count == 100 && all[i].whole.length == 150);
        answer_free(&all[i].whole);
        dynamo_request_destroy(all[i].request);
    }
    dynamo_runtime_destroy(runtime);
}

/* A callback may even create and run another runtime. */
static void on_event_nested(void *user, dynamo_request_t *request, dynamo_response_t *response,
                            int32_t status) {
    (void)request;
    dynamo_free(response);
    if (status == DYNAMO_END) {
        dynamo_runtime_t *runtime = start_echo();
        check_answer(sent(runtime, say("nested")), "nested", DYNAMO_END);
        dynamo_runtime_destroy(runtime);
        add(user, 1);
    }
}

static void a_callback_may_use_the_library(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = say("a");
    counter done = {0};
    CHECK_STATUS(dynamo_request_set_callback(request, on_event_nested, &done, NULL), DYNAMO_OK);
    sent(runtime, request);
    EVENTUALLY(get(&done) == 1);
    dynamo_request_destroy(request);
    settle(runtime);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a callback creates, uses and destroys a runtime", 1, "as anywhere else");
}

int main(void) {
    BEGIN();
    RUN(responses_then_the_end_then_the_release);
    RUN(an_error_is_the_last_event);
    RUN(a_request_destroyed_in_its_callback);
    RUN(the_other_ways_to_receive_are_closed);
    RUN(what_was_never_sent_is_released);
    RUN(cancelled_before_it_is_sent);
    RUN(destroyed_while_it_is_sent);
    RUN(many_at_once);
    RUN(a_callback_may_use_the_library);
    return 0;
}
