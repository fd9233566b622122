/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of a runtime: which requests are queued, which are rejected, and how queued requests end. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

#define ONE "{'engine': 'scripted', 'limits': {'max_concurrent': 1, 'max_queued': 2}}"
#define STALL "[{'text': 'x'}, {'stall': true}]"

static void what_is_over_the_limits_is_refused_at_once(void) {
    dynamo_runtime_t *runtime = start(ONE);
    dynamo_request_t *running = sent(runtime, say_script(STALL));
    dynamo_request_t *first = sent(runtime, say_script("[{'text': 'first'}]"));
    dynamo_request_t *second = sent(runtime, say_script("[{'text': 'second'}]"));
    CHECK(statistic(runtime, "in_flight") == 1);
    CHECK(statistic(runtime, "queued") == 2);
    dynamo_request_t *third = say_script("[{'text': 'third'}]");
    CHECK_STATUS(dynamo_request_send(runtime, third), DYNAMO_ERROR_OVERLOADED);
    CHECK_CONTAINS(dynamo_last_error(), "1 requests are running and 2 are queued");
    char details[1000];
    snprintf(details, sizeof details, "%s", dynamo_last_error_json());
    CHECK_CONTAINS(details, "\"retriable\":true");
    CHECK_CONTAINS(details, dynamo_request_id(third));
    dynamo_response_t *none = NULL;
    CHECK_STATUS(dynamo_request_next(first, 0, &none), DYNAMO_PENDING);
    dynamo_request_cancel(running);
    dynamo_request_destroy(running);
    check_answer(first, "first", DYNAMO_END);
    check_answer(second, "second", DYNAMO_END);
    /* A rejected request is unchanged and can be sent again. */
    check_answer(sent(runtime, third), "third", DYNAMO_END);
    CHECK(statistic(runtime, "sent") == 4);
    CHECK(statistic(runtime, "queued") == 0);
    dynamo_runtime_destroy(runtime);
}

static void a_request_that_waits_can_be_cancelled_and_destroyed(void) {
    dynamo_runtime_t *runtime = start(ONE);
    dynamo_request_t *running = sent(runtime, say_script(STALL));
    dynamo_request_t *cancelled = sent(runtime, say_script("[{'text': 'no'}]"));
    dynamo_request_t *destroyed = sent(runtime, say_script("[{'text': 'no'}]"));
    dynamo_request_cancel(cancelled);
    check_answer(cancelled, "", DYNAMO_ERROR_CANCELLED);
    dynamo_request_destroy(destroyed);
    CHECK(statistic(runtime, "queued") == 0);
    CHECK(statistic(runtime, "cancelled") == 2);
    dynamo_request_t *later = sent(runtime, say_script("[{'text': 'later'}]"));
    dynamo_request_destroy(running);
    check_answer(later, "later", DYNAMO_END);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
}

static void deadlines_count_while_a_request_waits(void) {
    dynamo_runtime_t *runtime =
        start("{'engine': 'scripted', 'limits': {'max_concurrent': 1, 'first_token_ms': 20}}");
    dynamo_request_t *running = say_script(STALL);
    CHECK_STATUS(dynamo_request_set_deadlines(running, 100000, -1), DYNAMO_OK);
    sent(runtime, running);
    dynamo_request_t *waiting = sent(runtime, say_script("[{'text': 'late'}]"));
    dynamo_timing_t timing = {sizeof timing, 0, 0, 0};
    CHECK(dynamo_request_recv(waiting) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    CHECK_CONTAINS(dynamo_last_error(), "to the first token");
    CHECK_STATUS(dynamo_request_timing(waiting, &timing), DYNAMO_OK);
    CHECK(timing.queue_us == -1 && timing.first_token_us == -1 && timing.total_us >= 20000);
    dynamo_request_destroy(waiting);
    dynamo_request_destroy(running);
    dynamo_runtime_destroy(runtime);
}

static void total_deadline_of_the_configuration(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted', 'limits': {'total_ms': 20}}");
    check_answer(sent(runtime, say_script(STALL)), "x", DYNAMO_ERROR_DEADLINE_EXCEEDED);
    dynamo_runtime_destroy(runtime);
}

typedef struct order {
    counter next;
    counter done;
    long places[5];
} order;

typedef struct ticket {
    order *all;
    int number;
} ticket;

static void note_order(void *user, dynamo_request_t *request, dynamo_response_t *response,
                       int32_t status) {
    (void)request;
    (void)status;
    ticket *its = user;
    if (response == NULL) {
        add(&its->all->done, 1);
    } else if (its->all->places[its->number] == 0) {
        /* The first event defines the order: the next request starts only after this request's text, but may start
           before this request's terminal event. */
        its->all->places[its->number] = add(&its->all->next, 1);
    }
    dynamo_free(response);
}

static void the_highest_priority_goes_first(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted', 'limits': {'max_concurrent': 1}}");
    dynamo_request_t *running = sent(runtime, say_script(STALL));
    const char *bodies[5] = {
        "{'prompt': '[{\\'text\\': \\'a\\'}]'}",
        "{'prompt': '[{\\'text\\': \\'b\\'}]', 'priority': 5}",
        "{'prompt': '[{\\'text\\': \\'c\\'}]', 'nvext': {'agent_hints': {'priority': 9}}}",
        "{'prompt': '[{\\'text\\': \\'b\\'}]', 'priority': -2147483648}",
        "{'prompt': '[{\\'text\\': \\'b\\'}]', 'priority': 2147483647}",
    };
    order all = {{0}, {0}, {0, 0, 0, 0, 0}};
    ticket tickets[5];
    dynamo_request_t *requests[5];
    for (int i = 0; i < 5; ++i) {
        requests[i] = ask(bodies[i]);
        tickets[i] = (ticket){&all, i};
        CHECK_STATUS(dynamo_request_set_callback(requests[i], note_order, &tickets[i], NULL),
                     DYNAMO_OK);
        sent(runtime, requests[i]);
    }
    dynamo_request_destroy(running);
    EVENTUALLY(get(&all.done) == 5);
    CHECK(all.places[4] < all.places[2] && all.places[2] < all.places[1] &&
          all.places[1] < all.places[0] && all.places[0] < all.places[3]);
    for (int i = 0; i < 5; ++i) {
        dynamo_request_destroy(requests[i]);
    }
    dynamo_runtime_destroy(runtime);
}

static void tokens_in_flight_are_limited(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted', 'options': {'script': " STALL
                                      "}, 'limits': {'max_tokens': 100}}");
    dynamo_request_t *small = sent(runtime, ask("{'prompt': 'four tokens.', 'max_tokens': 40}"));
    dynamo_request_t *fits = sent(runtime, ask("{'prompt': 'two.', 'max_tokens': 54}"));
    dynamo_request_t *waits = sent(runtime, ask("{'prompt': 'a', 'max_tokens': 1}"));
    CHECK(statistic(runtime, "in_flight") == 2);
    CHECK(statistic(runtime, "queued") == 1);
    dynamo_request_destroy(small);
    dynamo_response_t *response = dynamo_request_recv(waits);
    CHECK_TEXT(dynamo_response_text(response, NULL), "x");
    dynamo_free(response);
    dynamo_request_destroy(waits);
    /* A request larger than the limit runs alone. */
    dynamo_request_t *large = sent(runtime, ask("{'prompt': 'a', 'max_tokens': 1000}"));
    CHECK(statistic(runtime, "queued") == 1);
    dynamo_request_destroy(fits);
    response = dynamo_request_recv(large);
    CHECK(response != NULL);
    dynamo_free(response);
    dynamo_request_destroy(large);
    dynamo_runtime_destroy(runtime);
}

static void what_the_engine_refuses_later_ends_the_request(void) {
    dynamo_runtime_t *runtime = start(ONE);
    dynamo_request_t *running = sent(runtime, say_script(STALL));
    dynamo_request_t *refused = sent(
        runtime, say_script("[{'refuse': {'status': 'UNAVAILABLE', 'message': 'not today'}}]"));
    dynamo_request_t *good = sent(runtime, say_script("[{'text': 'good'}]"));
    dynamo_request_destroy(running);
    CHECK(dynamo_request_recv(refused) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_UNAVAILABLE);
    CHECK_CONTAINS(dynamo_request_error(refused), "not today");
    CHECK_CONTAINS(dynamo_request_error_json(refused), "\"layer\":\"engine\"");
    CHECK_CONTAINS(dynamo_request_error_json(refused), dynamo_request_id(refused));
    dynamo_request_destroy(refused);
    check_answer(good, "good", DYNAMO_END);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(statistic(runtime, "failed") == 1);
    dynamo_runtime_destroy(runtime);
}

static void shutting_down_answers_what_waits(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'limits': {'max_concurrent': 2}}");
    dynamo_request_t *requests[50];
    for (int i = 0; i < 50; ++i) {
        requests[i] = sent(runtime, say("a b c"));
    }
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    for (int i = 0; i < 50; ++i) {
        check_answer(requests[i], "a b c", DYNAMO_END);
    }
    dynamo_runtime_destroy(runtime);

    runtime = start(ONE);
    dynamo_request_t *running = sent(runtime, say_script(STALL));
    dynamo_request_t *waiting = sent(runtime, say_script("[{'text': 'no'}]"));
    EVENTUALLY(statistic(runtime, "pushed") == 1);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, 0), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    check_answer(waiting, "", DYNAMO_ERROR_CANCELLED);
    check_answer(running, "x", DYNAMO_ERROR_CANCELLED);
    dynamo_runtime_destroy(runtime);
}

typedef struct crowd {
    dynamo_runtime_t *runtime;
    counter answered;
    counter refused;
} crowd;

static void *ask_and_cancel(void *argument) {
    crowd *all = argument;
    const int rounds = (int)(200 * scale()) + 10;
    for (int i = 0; i < rounds; ++i) {
        dynamo_request_t *request = say("a b");
        const int32_t status = dynamo_request_send(all->runtime, request);
        if (status == DYNAMO_ERROR_OVERLOADED) {
            add(&all->refused, 1);
        } else {
            CHECK_STATUS(status, DYNAMO_OK);
            if (i % 3 == 0) {
                dynamo_request_cancel(request);
            }
            answer whole = receive_all(request);
            CHECK(whole.status == DYNAMO_END ||
                  (i % 3 == 0 && whole.status == DYNAMO_ERROR_CANCELLED));
            answer_free(&whole);
            add(&all->answered, 1);
        }
        dynamo_request_destroy(request);
    }
    return NULL;
}

static void many_threads_at_the_limit(void) {
    crowd all = {
        start("{'engine': 'echo', 'limits': {'max_concurrent': 2, 'max_queued': 3}}"), {0}, {0}};
    pthread_t threads[8];
    for (int i = 0; i < 8; ++i) {
        threads[i] = spawn(ask_and_cancel, &all);
    }
    for (int i = 0; i < 8; ++i) {
        join(threads[i]);
    }
    CHECK_STATUS(dynamo_runtime_shutdown(all.runtime, -1), DYNAMO_OK);
    CHECK(statistic(all.runtime, "sent") == get(&all.answered));
    CHECK(statistic(all.runtime, "in_flight") == 0 && statistic(all.runtime, "queued") == 0);
    CHECK(statistic(all.runtime, "ended") + statistic(all.runtime, "cancelled") ==
          get(&all.answered));
    dynamo_runtime_destroy(all.runtime);
}

int main(void) {
    BEGIN();
    RUN(what_is_over_the_limits_is_refused_at_once);
    RUN(a_request_that_waits_can_be_cancelled_and_destroyed);
    RUN(deadlines_count_while_a_request_waits);
    RUN(total_deadline_of_the_configuration);
    RUN(the_highest_priority_goes_first);
    RUN(tokens_in_flight_are_limited);
    RUN(what_the_engine_refuses_later_ends_the_request);
    RUN(shutting_down_answers_what_waits);
    RUN(many_threads_at_the_limit);
    return 0;
}
