/* SPDX-License-Identifier: Apache-2.0 */
/* No call waits for its own thread: in callbacks of requests and of engines, such a call fails at once or does not
   wait. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dynamo_llm/engine.h"
#include "support.h"

/* What an engine's callbacks do, and the results. */
typedef struct lab {
    dynamo_runtime_t *runtime;
    dynamo_stream_t *stream; /* of the latest request */
    int shut_down_in_generate;
    int shut_down_in_cancel;
    int give_up_in_stop;
    int stop_waits_for_callback;
    counter refused; /* calls that failed with INVALID_STATE */
    counter callback_is_over;
    counter stops;
    counter in_time; /* stops that ran after the callback returned */
} lab;

static void shut_down(lab *here) {
    CHECK_STATUS(dynamo_runtime_shutdown(here->runtime, -1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "callback of the runtime's own engine");
    add(&here->refused, 1);
}

static int32_t lab_start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t lab_generate(void *instance, dynamo_stream_t *stream, const char *id,
                            const char *body) {
    lab *here = instance;
    (void)id, (void)body;
    here->stream = stream;
    if (here->shut_down_in_generate) {
        shut_down(here);
    }
    return DYNAMO_OK;
}

static void lab_cancel(void *instance, dynamo_stream_t *stream) {
    lab *here = instance;
    if (here->shut_down_in_cancel) {
        shut_down(here);
    }
    dynamo_stream_finish(stream, NULL, NULL);
}

static void lab_stop(void *instance) {
    lab *here = instance;
    if (here->give_up_in_stop) {
        shut_down(here);
        dynamo_runtime_destroy(here->runtime);
    }
    /* Less than the ten seconds after which a destroy function stops waiting. */
    for (int i = 0; here->stop_waits_for_callback && i < 4000; ++i) {
        if (get(&here->callback_is_over) > 0) {
            add(&here->in_time, 1);
            break;
        }
        usleep(1000);
    }
    add(&here->stops, 1);
}

static const dynamo_engine_t lab_engine = {
    .struct_size = sizeof lab_engine,
    .start = lab_start,
    .generate = lab_generate,
    .cancel = lab_cancel,
    .stop = lab_stop,
};

static dynamo_runtime_t *open_lab(lab *here, const char *config) {
    memset(here, 0, sizeof *here);
    CHECK_STATUS(dynamo_engine_register("lab", &lab_engine, here, NULL), DYNAMO_OK);
    here->runtime = start(config);
    CHECK_STATUS(dynamo_engine_unregister("lab"), DYNAMO_OK);
    return here->runtime;
}

/* --- destroy functions in a callback --- */

static void destroy_other(void *user, dynamo_request_t *request, dynamo_response_t *response,
                          int32_t status) {
    lab *here = user;
    (void)request;
    dynamo_free(response);
    if (status != DYNAMO_OK) {
        dynamo_runtime_destroy(here->runtime); /* its engine waits for this callback */
        add(&here->callback_is_over, 1);
    }
}

static void a_runtime_destroyed_in_a_callback(void) {
    dynamo_runtime_t *echo = start_echo();
    for (int i = 0; i < 3; ++i) {
        lab here;
        open_lab(&here, "{'engine': 'lab'}");
        here.stop_waits_for_callback = 1;
        dynamo_request_t *request = say("a");
        CHECK_STATUS(dynamo_request_set_callback(request, destroy_other, &here, NULL), DYNAMO_OK);
        sent(echo, request);
        EVENTUALLY(get(&here.stops) == 1);
        CHECK(get(&here.in_time) == 1);
        dynamo_request_destroy(request);
    }
    dynamo_runtime_destroy(echo);
    RELIABILITY("a runtime is destroyed in a callback for which its engine's stop waits", 3,
                "the destroy did not wait; the engine was stopped");
}

/* --- calls in callbacks of the engine itself --- */

static void shut_down_in_callbacks_of_its_engine(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab'}");
    here.shut_down_in_generate = here.shut_down_in_cancel = 1;
    dynamo_request_t *request = sent(runtime, say("a")); /* it still accepts requests */
    CHECK(get(&here.refused) == 1);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    CHECK(get(&here.refused) == 2);
    dynamo_request_destroy(request);
    here.give_up_in_stop = 1;
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(get(&here.stops) == 1 && get(&here.refused) == 3);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_ERROR_INVALID_HANDLE);
    RELIABILITY("a runtime is shut down, or destroyed, in a callback of its own engine", 4,
                "INVALID_STATE at once; the destroy did not wait");
}

/* --- waiting for callbacks in a callback --- */

typedef struct chain {
    lab lab;
    dynamo_request_t *outer;
    counter outer_events;
    counter done;
} chain;

static void count_outer(void *user, dynamo_request_t *request, dynamo_response_t *response,
                        int32_t status) {
    (void)request, (void)status;
    dynamo_free(response);
    add(&((chain *)user)->outer_events, 1);
}

static void fill_outer(void *user, dynamo_request_t *request, dynamo_response_t *response,
                       int32_t status) {
    chain *here = user;
    (void)request;
    dynamo_free(response);
    if (status == DYNAMO_OK) {
        return;
    }
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .text = "x", .text_length = 1};
    while (dynamo_stream_push(here->lab.stream, &chunk) == DYNAMO_OK) {
    }
    CHECK_STATUS(dynamo_last_status(), DYNAMO_PENDING);
    CHECK_STATUS(dynamo_stream_wait(here->lab.stream, 0), DYNAMO_PENDING);
    CHECK_STATUS(dynamo_stream_wait(here->lab.stream, -1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_runtime_shutdown(here->lab.runtime, -1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "deliver to callbacks");
    add(&here->done, 1);
}

static void waiting_for_callbacks_in_a_callback(void) {
    chain here;
    memset(&here, 0, sizeof here);
    dynamo_runtime_t *echo = start_echo();
    dynamo_runtime_t *runtime = open_lab(&here.lab, "{'engine': 'lab', 'stream': {'capacity': 4}}");
    here.outer = say("a");
    CHECK_STATUS(dynamo_request_set_callback(here.outer, count_outer, &here, NULL), DYNAMO_OK);
    sent(runtime, here.outer);
    dynamo_request_t *inner = say("b");
    CHECK_STATUS(dynamo_request_set_callback(inner, fill_outer, &here, NULL), DYNAMO_OK);
    sent(echo, inner);
    EVENTUALLY(get(&here.done) == 1);
    EVENTUALLY(get(&here.outer_events) > 0);
    CHECK_STATUS(dynamo_stream_wait(here.lab.stream, -1), DYNAMO_OK); /* allowed in other threads */
    CHECK_STATUS(dynamo_stream_finish(here.lab.stream, NULL, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    dynamo_request_destroy(inner);
    dynamo_request_destroy(here.outer);
    dynamo_runtime_destroy(echo);
    RELIABILITY("a callback waits for what only another callback brings", 2,
                "INVALID_STATE at once");
}

/* --- waiting for a creation --- */

typedef struct eager {
    dynamo_creation_t *creation;
    dynamo_runtime_t *runtime;
    counter is_known; /* the callbacks may use the creation */
    counter may_start;
    counter refused;
    counter releases;
} eager;

static void wait_in_vain(eager *here, const char *where) {
    while (get(&here->is_known) == 0) {
        usleep(100);
    }
    CHECK_STATUS(dynamo_creation_wait(here->creation, 0), DYNAMO_PENDING);
    CHECK_STATUS(dynamo_creation_wait(here->creation, 1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_creation_wait(here->creation, -1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), where);
    add(&here->refused, 1);
}

static void wait_in_event(void *user, const dynamo_creation_event_t *event) {
    eager *here = user;
    wait_in_vain(here, "in a callback of the library");
    here->runtime = event->runtime;
}

static void wait_in_release(void *user) {
    wait_in_vain(user, "in a callback of the library");
    add(&((eager *)user)->releases, 1);
}

static void wait_in_response(void *user, dynamo_request_t *request, dynamo_response_t *response,
                             int32_t status) {
    (void)request, (void)status;
    dynamo_free(response);
    wait_in_vain(user, "in a callback of the library");
}

static int32_t wait_in_start(void *user, const char *config, void **instance) {
    eager *here = user;
    (void)config;
    wait_in_vain(here, "in the start function of the engine");
    while (get(&here->may_start) == 0) {
        usleep(100);
    }
    *instance = here;
    return DYNAMO_OK;
}

static void ignore_stop(void *instance) {
    (void)instance;
}

static void waiting_for_a_creation(void) {
    eager here;
    memset(&here, 0, sizeof here);
    dynamo_engine_t engine = lab_engine;
    engine.start = wait_in_start;
    engine.stop = ignore_stop;
    CHECK_STATUS(dynamo_engine_register("eager", &engine, &here, NULL), DYNAMO_OK);
    here.creation = dynamo_runtime_create_async("{\"engine\": \"eager\"}", wait_in_event, &here,
                                                wait_in_release);
    CHECK(here.creation != NULL);
    add(&here.is_known, 1);
    EVENTUALLY(get(&here.refused) == 2); /* the progress "engine", and the start function */
    dynamo_runtime_t *echo = start_echo();
    dynamo_request_t *request = say("a");
    CHECK_STATUS(dynamo_request_set_callback(request, wait_in_response, &here, NULL), DYNAMO_OK);
    sent(echo, request);
    EVENTUALLY(get(&here.refused) >= 4); /* its responses and its end */
    CHECK_STATUS(dynamo_creation_wait(here.creation, 5), DYNAMO_PENDING);
    add(&here.may_start, 1);
    CHECK_STATUS(dynamo_creation_wait(here.creation, -1), DYNAMO_OK);
    CHECK(get(&here.releases) == 1 && here.runtime != NULL);
    CHECK_STATUS(dynamo_engine_unregister("eager"), DYNAMO_OK);
    dynamo_runtime_destroy(here.runtime);
    dynamo_creation_destroy(here.creation);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(echo);
    RELIABILITY("a callback, or an engine's start function, waits for a creation that it delays", 4,
                "INVALID_STATE at once");
}

int main(void) {
    BEGIN();
    RUN(a_runtime_destroyed_in_a_callback);
    RUN(shut_down_in_callbacks_of_its_engine);
    RUN(waiting_for_callbacks_in_a_callback);
    RUN(waiting_for_a_creation);
    return 0;
}
