/* SPDX-License-Identifier: Apache-2.0 */
/* Control calls: dynamo_runtime_call(), with an engine in C. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* An engine with an adapter, and calls that answer at once, later, wrongly, or never. */
static struct {
    char description[256];
    dynamo_stream_t *stalled;
    dynamo_runtime_t *runtime;
    counter cancels;
    counter stalls;
    counter requests;
} here;

static void describe_adapters(const char *adapters) {
    snprintf(here.description, sizeof here.description,
             "{\"adapters\": [%s], \"calls\": [\"load_adapter\", \"later\", \"wrong\", \"two\", "
             "\"bytes\", \"nothing\", \"fail\", \"stall\", \"inside\"]}",
             adapters);
}

static int32_t start_engine(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    describe_adapters("");
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *id, const char *body) {
    (void)instance, (void)id, (void)body;
    add(&here.requests, 1);
    return dynamo_stream_finish(stream, "stop", NULL);
}

static void answer_with(dynamo_stream_t *stream, const char *text, int32_t kind) {
    const dynamo_data_t data = {text, strlen(text), kind};
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .data = &data};
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
}

static void *answer_later(void *stream) {
    usleep(20000);
    answer_with(stream, "{\"done\":true}", DYNAMO_DATA_JSON);
    CHECK_STATUS(dynamo_stream_finish(stream, NULL, NULL), DYNAMO_OK);
    return NULL;
}

static int32_t call_engine(void *instance, dynamo_stream_t *stream, const char *id,
                           const char *name, const char *arguments) {
    CHECK(instance == &here);
    CHECK_CONTAINS(id, "req-");
    if (strcmp(name, "load_adapter") == 0) {
        if (strstr(arguments, "\"path\"") == NULL)
            return dynamo_engine_error(DYNAMO_ERROR_INVALID_REQUEST, "\"path\" is missing", NULL);
        describe_adapters("\"poet\"");
        answer_with(stream, arguments, DYNAMO_DATA_JSON);
    } else if (strcmp(name, "later") == 0) {
        pthread_detach(spawn(answer_later, stream));
        return DYNAMO_OK;
    } else if (strcmp(name, "two") == 0) {
        answer_with(stream, "1", DYNAMO_DATA_JSON);
        answer_with(stream, "2", DYNAMO_DATA_JSON);
    } else if (strcmp(name, "bytes") == 0) {
        answer_with(stream, "1", DYNAMO_DATA_BYTES);
    } else if (strcmp(name, "wrong") == 0) {
        const dynamo_data_t data = {"{", 1, DYNAMO_DATA_JSON};
        const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .data = &data};
        CHECK(dynamo_stream_push(stream, &chunk) < 0);
        return dynamo_stream_fail(stream, DYNAMO_ERROR_ENGINE_FAILED, dynamo_last_error(), NULL);
    } else if (strcmp(name, "fail") == 0) {
        return dynamo_stream_fail(stream, DYNAMO_ERROR_OVERLOADED, "requests are running",
                                  "{\"running\": 3}");
    } else if (strcmp(name, "inside") == 0) {
        CHECK(dynamo_runtime_call(here.runtime, "nothing", "{}", -1) == NULL);
        return dynamo_engine_error(dynamo_last_status(), dynamo_last_error(), NULL);
    } else if (strcmp(name, "stall") == 0) {
        here.stalled = stream;
        add(&here.stalls, 1);
        return DYNAMO_OK;
    }
    return dynamo_stream_finish(stream, NULL, NULL);
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    CHECK(stream == here.stalled);
    add(&here.cancels, 1);
    dynamo_stream_finish(stream, NULL, NULL);
}

static void stop_engine(void *instance) {
    (void)instance;
}

static const char *describe(void *instance) {
    (void)instance;
    return here.description;
}

static const dynamo_engine_t calling = {
    .struct_size = sizeof calling,
    .start = start_engine,
    .generate = generate,
    .cancel = cancel,
    .stop = stop_engine,
    .describe = describe,
    .call = call_engine,
};

static void check_result(const char *name, const char *arguments, const char *result) {
    char *const text = dynamo_runtime_call(here.runtime, name, arguments, 60000);
    CHECK_TEXT(text, result);
    dynamo_free(text);
}

static void check_failure(const char *name, const char *arguments, int64_t timeout_ms,
                          int32_t status, const char *message) {
    CHECK(dynamo_runtime_call(here.runtime, name, arguments, timeout_ms) == NULL);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), message);
}

static void a_call_returns_its_result(void) {
    check_result("load_adapter", "{\"path\": \"/a\", \"name\": \"poet\"}",
                 "{\"name\":\"poet\",\"path\":\"/a\"}");
    check_result("later", "{}", "{\"done\":true}");
    check_result("nothing", "{}", "null");
    char *const models = dynamo_runtime_models(here.runtime);
    CHECK_CONTAINS(models, "\"calls\":[\"load_adapter\",");
    CHECK_CONTAINS(models, "\"adapters\":[\"poet\"]");
    dynamo_free(models);
    /* Neither statistics nor metrics count calls. */
    CHECK(statistic(here.runtime, "sent") == 0 && statistic(here.runtime, "ended") == 0);
    CHECK(statistic(here.runtime, "received") == 0 && statistic(here.runtime, "pushed") == 0);
    char *const metrics = dynamo_runtime_metrics(here.runtime);
    CHECK_CONTAINS(metrics, "status=\"ok\"} 0\n");
    dynamo_free(metrics);
}

static void mistakes_are_refused(void) {
    check_failure("load_adaptor", "{}", -1, DYNAMO_ERROR_NOT_SUPPORTED,
                  "the engine \"calling\" does not have the call \"load_adaptor\"; did you mean "
                  "\"load_adapter\"? Its calls: load_adapter, later");
    check_failure("load_adapter", "{}", -1, DYNAMO_ERROR_INVALID_REQUEST, "\"path\" is missing");
    check_failure("load_adapter", "{", -1, DYNAMO_ERROR_INVALID_JSON, "arguments");
    check_failure("load_adapter", "[]", -1, DYNAMO_ERROR_INVALID_ARGUMENT, "arguments");
    check_failure("load_adapter", "{\"model\": 7}", -1, DYNAMO_ERROR_INVALID_ARGUMENT,
                  "\"model\" of the arguments must be a string");
    check_failure("load_adapter", NULL, -1, DYNAMO_ERROR_INVALID_ARGUMENT,
                  "arguments_json is NULL");
    check_failure(NULL, "{}", -1, DYNAMO_ERROR_INVALID_ARGUMENT, "name is NULL");
    check_failure("", "{}", -1, DYNAMO_ERROR_INVALID_ARGUMENT, "name is empty");
    check_failure("\xff", "{}", -1, DYNAMO_ERROR_INVALID_ARGUMENT, "not UTF-8");
    check_failure("nothing", "{}", 0, DYNAMO_ERROR_INVALID_ARGUMENT, "timeout_ms must be");
    check_failure("nothing", "{}", -2, DYNAMO_ERROR_INVALID_ARGUMENT, "timeout_ms must be");
    check_failure("wrong", "{}", -1, DYNAMO_ERROR_ENGINE_FAILED, "chunk's data");
    check_failure("two", "{}", -1, DYNAMO_ERROR_ENGINE_FAILED, "with 2 payloads");
    check_failure("bytes", "{}", -1, DYNAMO_ERROR_ENGINE_FAILED, "one JSON payload");
    check_failure("fail", "{}", -1, DYNAMO_ERROR_OVERLOADED, "requests are running");
    CHECK_CONTAINS(dynamo_last_error_json(), "\"running\":3");
    check_failure("inside", "{}", -1, DYNAMO_ERROR_INVALID_STATE,
                  "was called in a callback of the engine");
}

static void engines_without_calls_refuse_by_name(void) {
    dynamo_runtime_t *const echo = start_echo();
    CHECK(dynamo_runtime_call(echo, "sleep", "{}", -1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_NOT_SUPPORTED);
    CHECK_CONTAINS(dynamo_last_error(), "the engine \"echo\" has no calls, so \"sleep\" is not");
    dynamo_runtime_destroy(echo);
}

static void a_timeout_ends_the_wait(void) {
    const long before = get(&here.cancels);
    check_failure("stall", "{}", 20, DYNAMO_ERROR_DEADLINE_EXCEEDED,
                  "the call \"stall\" did not end within its timeout of 20 ms");
    EVENTUALLY(get(&here.cancels) == before + 1);
}

static void calls_wait_for_no_slot(void) {
    dynamo_runtime_t *const runtime = start(
        "{'models': [{'name': 'a', 'engine': 'scripted'}, {'name': 'b', 'engine': "
        "'calling'}], 'limits': {'max_concurrent': 1, 'max_queued': 0, 'total_ms': 1}}");
    dynamo_request_t *const running = sent(runtime, say_script("[{'stall': true}]"));
    char *const text = dynamo_runtime_call(runtime, "later", "{\"model\": \"b\"}", 60000);
    CHECK_TEXT(text, "{\"done\":true}"); /* default deadlines are those of requests */
    dynamo_free(text);
    CHECK(dynamo_runtime_call(runtime, "later", "{}", 60000) == NULL);
    CHECK_CONTAINS(dynamo_last_error(), "\"scripted\" has no calls");
    CHECK(dynamo_runtime_call(runtime, "later", "{\"model\": \"c\"}", 60000) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_MODEL_NOT_FOUND);
    dynamo_request_destroy(running);
    dynamo_runtime_destroy(runtime);
}

static void *shut_down(void *unused) {
    (void)unused;
    EVENTUALLY(get(&here.stalls) == 2);
    CHECK_STATUS(dynamo_runtime_shutdown(here.runtime, 10), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    return NULL;
}

static void a_shutdown_ends_calls(void) {
    const pthread_t thread = spawn(shut_down, NULL);
    check_failure("stall", "{}", -1, DYNAMO_ERROR_CANCELLED, "the runtime was shut down");
    join(thread);
    check_failure("nothing", "{}", -1, DYNAMO_ERROR_CLOSED, "the runtime was shut down");
}

static void descriptions_are_checked(void) {
    dynamo_engine_t without = calling;
    without.call = NULL;
    CHECK_STATUS(dynamo_engine_register("without", &without, &here, NULL), DYNAMO_OK);
    CHECK(dynamo_runtime_create("{\"engine\": \"without\"}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_CONTAINS(dynamo_last_error(), "its function call is NULL");
}

int main(void) {
    BEGIN();
    CHECK_STATUS(dynamo_engine_register("calling", &calling, &here, NULL), DYNAMO_OK);
    here.runtime = start("{'engine': 'calling'}");
    RUN(a_call_returns_its_result);
    RUN(mistakes_are_refused);
    RUN(engines_without_calls_refuse_by_name);
    RUN(a_timeout_ends_the_wait);
    RUN(calls_wait_for_no_slot);
    RUN(a_shutdown_ends_calls);
    RUN(descriptions_are_checked);
    dynamo_runtime_destroy(here.runtime);
    return 0;
}
