/* SPDX-License-Identifier: Apache-2.0 */
/* The library holds no lock while a callback of the program or of an engine runs: each may call every function that
 * the header allows there, while other threads do the same. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

static dynamo_runtime_t *runtime;
static dynamo_request_t *current;

/* ---------------------------------------------------------------------- calls made from every callback */

static void ignore_record(void *user, int32_t level, const char *logger, const char *message) {
    (void)user, (void)level, (void)logger, (void)message;
}

static void ignore_ready(void *user) {
    (void)user;
}

static int32_t idle_start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}
static int32_t idle_generate(void *instance, dynamo_stream_t *stream, const char *id,
                             const char *body) {
    (void)instance, (void)id, (void)body;
    return dynamo_stream_finish(stream, "stop", NULL);
}
static void idle_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}
static void idle_stop(void *instance) {
    (void)instance;
}
static const dynamo_engine_t idle = {
    .struct_size = sizeof idle,
    .start = idle_start,
    .generate = idle_generate,
    .cancel = idle_cancel,
    .stop = idle_stop,
};

static counter asked[16];
enum where {
    LOG,
    LOG_RELEASE,
    RESPONSE,
    RESPONSE_RELEASE,
    READY,
    START,
    GENERATE,
    CANCEL,
    ON_WRITABLE,
    STOP,
    DESCRIBE,
    METRICS,
    ENGINE_RELEASE,
    WHERES
};
static const char *const where_names[] = {
    "log",    "log release", "response", "response release", "ready",   "start",         "generate",
    "cancel", "on_writable", "stop",     "describe",         "metrics", "engine release"};

/* Calls every function that returns without blocking. */
static void ask_everything(enum where where) {
    static counter names;
    if (add(&asked[where], 1) > 3) {
        return; /* bounds the recursion of callbacks that this triggers */
    }
    dynamo_log_write(DYNAMO_LOG_DEBUG, "test", where_names[where]);
    CHECK(dynamo_log_level() >= DYNAMO_LOG_TRACE);
    CHECK(dynamo_config_schema() != NULL);
    if (runtime != NULL) {
        dynamo_free(dynamo_runtime_metrics(runtime));
        dynamo_free(dynamo_runtime_models(runtime));
        dynamo_free(dynamo_runtime_statistics(runtime));
    }
    dynamo_request_t *request = say("x");
    CHECK_STATUS(dynamo_request_set_deadlines(request, 1000, 100000), DYNAMO_OK);
    if (runtime != NULL && where != STOP && where != ENGINE_RELEASE) {
        dynamo_request_send(runtime, request);
        dynamo_request_notify(request, ignore_ready, NULL);
        dynamo_request_fd(request);
    }
    dynamo_request_status(request);
    dynamo_request_cancel(request);
    CHECK(dynamo_request_id(request) != NULL);
    dynamo_request_error(request);
    dynamo_request_destroy(request);
    if (current != NULL) {
        dynamo_request_status(current);
        dynamo_request_error_json(current);
        dynamo_timing_t timing = {.struct_size = sizeof timing};
        dynamo_request_timing(current, &timing);
    }
    dynamo_queue_t *queue = dynamo_queue_create();
    dynamo_event_t event = {.struct_size = sizeof event};
    CHECK_STATUS(dynamo_queue_next(queue, 0, &event), DYNAMO_PENDING);
    dynamo_queue_destroy(queue);
    char name[32];
    snprintf(name, sizeof name, "idle-%ld", add(&names, 1));
    CHECK_STATUS(dynamo_engine_register(name, &idle, NULL, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_unregister(name), DYNAMO_OK);
    dynamo_log_set_callback(DYNAMO_LOG_OFF, ignore_record, NULL, NULL);
}

/* ---------------------------------------------------------------------- an engine that makes these calls */

static int32_t busy_start(void *user, const char *config, void **instance) {
    (void)config;
    ask_everything(START);
    *instance = user;
    return DYNAMO_OK;
}

static int32_t busy_generate(void *instance, dynamo_stream_t *stream, const char *id,
                             const char *body) {
    (void)instance, (void)id, (void)body;
    const dynamo_chunk_t chunk = {
        .struct_size = sizeof chunk, .text = "word", .text_length = 4, .token_count = 1};
    ask_everything(GENERATE);
    while (dynamo_stream_push(stream, &chunk) == DYNAMO_OK) { /* until the stream is full */
    }
    return DYNAMO_OK;
}

static void busy_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    ask_everything(CANCEL);
    dynamo_stream_finish(stream, NULL, NULL);
}

static void busy_on_writable(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    ask_everything(ON_WRITABLE);
    dynamo_stream_finish(stream, NULL, NULL);
}

static void busy_stop(void *instance) {
    (void)instance;
    ask_everything(STOP);
}

static const char *busy_describe(void *instance) {
    (void)instance;
    ask_everything(DESCRIBE);
    return "{\"changes\": true, \"models\": [\"a\"]}";
}

static void busy_metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance;
    ask_everything(METRICS);
    write(context, "busy 1");
}

static void busy_release(void *user) {
    (void)user;
    ask_everything(ENGINE_RELEASE);
}

static const dynamo_engine_t busy = {
    .struct_size = sizeof busy,
    .start = busy_start,
    .generate = busy_generate,
    .cancel = busy_cancel,
    .on_writable = busy_on_writable,
    .stop = busy_stop,
    .describe = busy_describe,
    .metrics = busy_metrics,
};

static counter released;

static void on_record(void *user, int32_t level, const char *logger, const char *message) {
    (void)user, (void)level, (void)logger, (void)message;
    ask_everything(LOG);
}
static void on_log_release(void *user) {
    (void)user;
    ask_everything(LOG_RELEASE);
}
static void on_event(void *user, dynamo_request_t *request, dynamo_response_t *response,
                     int32_t status) {
    (void)user, (void)request, (void)status;
    dynamo_free(response);
    ask_everything(RESPONSE);
}
static void on_release(void *user) {
    (void)user;
    ask_everything(RESPONSE_RELEASE);
    add(&released, 1);
}
static void on_ready(void *user) {
    ask_everything(READY);
    add(user, 1);
}

static void everything_from_everywhere(void) {
    counter ready = {0};
    CHECK_STATUS(dynamo_engine_register("busy", &busy, NULL, busy_release), DYNAMO_OK);
    runtime = start("{'engine': 'busy', 'stream': {'capacity': 2}}");
    char *metrics = dynamo_runtime_metrics(runtime);
    CHECK_CONTAINS(metrics, "busy 1\n");
    dynamo_free(metrics);

    current = say("x"); /* received, which also triggers on_writable() */
    sent(runtime, current);
    CHECK_STATUS(dynamo_request_notify(current, on_ready, &ready), DYNAMO_OK);
    EVENTUALLY(get(&ready) == 1);
    check_answer(current, "wordword", DYNAMO_END);
    current = say("x"); /* cancelled */
    sent(runtime, current);
    dynamo_request_cancel(current);
    dynamo_request_destroy(current);
    current = say("x");
    CHECK_STATUS(dynamo_request_set_callback(current, on_event, NULL, on_release), DYNAMO_OK);
    sent(runtime, current);
    EVENTUALLY(get(&released) == 1);
    dynamo_request_destroy(current);
    current = NULL;

    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_TRACE, on_record, NULL, on_log_release),
                 DYNAMO_OK);
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", "a record");
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_WARNING, NULL, NULL, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_unregister("busy"), DYNAMO_OK);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    runtime = NULL;
    for (int where = 0; where < WHERES; ++where) {
        if (get(&asked[where]) == 0) {
            fprintf(stderr, "never called: %s\n", where_names[where]);
        }
        CHECK(get(&asked[where]) > 0);
    }
    RELIABILITY(
        "every function that returns at once, from each callback of the host and each function of "
        "an engine",
        WHERES, "it returned; no lock was held");
}

/* ---------------------------------------------------------------------- two threads at once */

static counter inside;

/* Returns when both threads are here. If the library held a lock, it would never return. */
static void meet(void) {
    add(&inside, 1);
    EVENTUALLY(get(&inside) >= 2);
}

static void meeting_metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance;
    meet();
    write(context, "met 1");
}
static const char *meeting_describe(void *instance) {
    (void)instance;
    if (runtime != NULL) { /* NULL while the runtime is being created */
        meet();
    }
    return "{\"changes\": true}";
}
static void meeting_record(void *user, int32_t level, const char *logger, const char *message) {
    (void)user, (void)level, (void)logger, (void)message;
    meet();
}

static void *ask_metrics(void *unused) {
    char *const text = dynamo_runtime_metrics(runtime);
    (void)unused;
    CHECK_CONTAINS(text, "met 1\n");
    dynamo_free(text);
    return NULL;
}
static void *ask_models(void *unused) {
    (void)unused;
    dynamo_free(dynamo_runtime_models(runtime));
    return NULL;
}
static void *write_record(void *unused) {
    (void)unused;
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", "a record");
    return NULL;
}

static void two_threads_in_the_same_callback(void) {
    dynamo_engine_t meeting = idle;
    meeting.metrics = meeting_metrics;
    meeting.describe = meeting_describe;
    CHECK_STATUS(dynamo_engine_register("meeting", &meeting, NULL, NULL), DYNAMO_OK);
    runtime = start("{'engine': 'meeting'}");
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_ERROR, meeting_record, NULL, NULL), DYNAMO_OK);
    void *(*const functions[])(void *) = {ask_metrics, ask_models, write_record};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; ++i) {
        inside.value = 0;
        const pthread_t other = spawn(functions[i], NULL);
        functions[i](NULL);
        join(other);
    }
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_WARNING, NULL, NULL, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_unregister("meeting"), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    runtime = NULL;
}

/* ---------------------------------------------------------------------- queries while the engine stops */

static counter asking;
static counter may_answer;
static counter stopped;

static void slow_metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance;
    add(&asking, 1);
    EVENTUALLY(get(&may_answer) == 1);
    CHECK(get(&stopped) == 0); /* its instance still exists */
    write(context, "met 1");
}
static void slow_stop(void *instance) {
    (void)instance;
    add(&stopped, 1);
}
static void *answer_later(void *unused) {
    (void)unused;
    usleep(50000);
    add(&may_answer, 1);
    return NULL;
}

static void an_engine_is_stopped_after_its_metrics(void) {
    dynamo_engine_t slow = idle;
    slow.metrics = slow_metrics;
    slow.stop = slow_stop;
    CHECK_STATUS(dynamo_engine_register("slow", &slow, NULL, NULL), DYNAMO_OK);
    runtime = start("{'engine': 'slow'}");
    const pthread_t asks = spawn(ask_metrics, NULL);
    EVENTUALLY(get(&asking) == 1);
    const pthread_t answers = spawn(answer_later, NULL);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(get(&stopped) == 1);
    join(asks);
    join(answers);
    char *const text = dynamo_runtime_metrics(runtime); /* without those of the engine */
    CHECK(text != NULL && strstr(text, "met 1") == NULL);
    dynamo_free(text);
    char *const models = dynamo_runtime_models(runtime);
    CHECK(models != NULL);
    dynamo_free(models);
    dynamo_runtime_destroy(runtime);
    runtime = NULL;
    CHECK_STATUS(dynamo_engine_unregister("slow"), DYNAMO_OK);
}

/* ---------------------------------------------------------------------- calls that would wait for their own thread */

static enum where shutting_down;
static counter shutdowns;

static void shut_down(enum where where) {
    if (runtime != NULL && where == shutting_down && add(&shutdowns, 1) == 1) {
        CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_ERROR_INVALID_STATE);
    }
}
static int32_t closing_generate(void *instance, dynamo_stream_t *stream, const char *id,
                                const char *body) {
    (void)instance, (void)id, (void)body;
    const dynamo_chunk_t chunk = {
        .struct_size = sizeof chunk, .text = "word", .text_length = 4, .token_count = 1};
    while (dynamo_stream_push(stream, &chunk) == DYNAMO_OK) {
    }
    shut_down(GENERATE);
    return DYNAMO_OK;
}
static void closing_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    shut_down(CANCEL);
    dynamo_stream_finish(stream, NULL, NULL);
}
static void closing_on_writable(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
    shut_down(ON_WRITABLE);
}
static void closing_stop(void *instance) {
    (void)instance;
    shut_down(STOP);
}
static void closing_metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance, (void)write, (void)context;
    shut_down(METRICS);
}

static void an_engine_does_not_wait_for_itself(void) {
    const enum where wheres[] = {GENERATE, CANCEL, ON_WRITABLE, STOP, METRICS};
    dynamo_engine_t closing = idle;
    closing.generate = closing_generate;
    closing.cancel = closing_cancel;
    closing.on_writable = closing_on_writable;
    closing.stop = closing_stop;
    closing.metrics = closing_metrics;
    CHECK_STATUS(dynamo_engine_register("closing", &closing, NULL, NULL), DYNAMO_OK);
    for (size_t i = 0; i < sizeof wheres / sizeof wheres[0]; ++i) {
        fprintf(stderr, "    %s\n", where_names[wheres[i]]);
        shutting_down = wheres[i];
        shutdowns.value = 0;
        dynamo_runtime_t *const here = start("{'engine': 'closing', 'stream': {'capacity': 2}}");
        runtime = here;
        dynamo_request_t *request = sent(runtime, say("x"));
        dynamo_response_t *response;
        if (wheres[i] == ON_WRITABLE) {
            while (dynamo_request_next(request, 0, &response) == DYNAMO_OK) {
                dynamo_free(response);
            }
        }
        dynamo_free(dynamo_runtime_metrics(runtime));
        dynamo_request_destroy(request);
        dynamo_runtime_shutdown(here, -1);
        EVENTUALLY(get(&shutdowns) > 0);
        runtime = NULL;
        dynamo_runtime_destroy(here);
    }
    CHECK_STATUS(dynamo_engine_unregister("closing"), DYNAMO_OK);
    RELIABILITY(
        "an engine shuts its own runtime down, without a time limit, in a function of its own", 5,
        "DEADLINE_EXCEEDED at once; the runtime was shut down");
}

int main(void) {
    BEGIN();
    RUN(everything_from_everywhere);
    RUN(two_threads_in_the_same_callback);
    RUN(an_engine_is_stopped_after_its_metrics);
    RUN(an_engine_does_not_wait_for_itself);
    return 0;
}
