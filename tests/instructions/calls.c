/* SPDX-License-Identifier: Apache-2.0 */
/* What instructions.py counts: each function of the way of a token, CALLS times, in one thread.
 *
 *   calls CALLS */
#include <dynamo_llm.h>
#include <dynamo_llm/engine.h>
#include <stdio.h>
#include <stdlib.h>

static dynamo_stream_t *stream; /* of the last request */

static void check(int is_ok, const char *what) {
    if (!is_ok) {
        fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
        exit(1);
    }
}

static int32_t start_engine(void *user, const char *config_json, void **instance) {
    (void)config_json;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *its_stream, const char *request_id,
                        const char *request_json) {
    (void)instance, (void)request_id, (void)request_json;
    stream = its_stream;
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *its_stream) {
    (void)instance, (void)its_stream;
}

static void stop_engine(void *instance) {
    (void)instance;
}

static const dynamo_engine_t engine = {
    .struct_size = sizeof engine,
    .start = start_engine,
    .generate = generate,
    .cancel = cancel,
    .stop = stop_engine,
};

static void push(uint32_t id) {
    static const char text[] = " tok";
    dynamo_chunk_t chunk = {.struct_size = sizeof chunk};
    chunk.text = text;
    chunk.text_length = sizeof text - 1;
    chunk.token_ids = &id;
    chunk.token_count = 1;
    check(dynamo_stream_push(stream, &chunk) == DYNAMO_OK, "push");
}

static dynamo_request_t *sent(dynamo_runtime_t *runtime) {
    dynamo_request_t *const request =
        dynamo_request_create("{\"prompt\": \"Hello\", \"stream\": true}");
    check(request != NULL, "create");
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    return request;
}

int main(int argc, char **argv) {
    static int user;
    const int calls = argc == 2 ? atoi(argv[1]) : 0;
    check(calls > 0, "usage: calls CALLS");
    check(dynamo_engine_register("counted", &engine, &user, NULL) == DYNAMO_OK, "register");
    dynamo_runtime_t *const runtime = dynamo_runtime_create("{\"engine\": \"counted\"}");
    check(runtime != NULL, "runtime");

    for (int i = 0; i < calls; ++i) {
        dynamo_request_t *const request = sent(runtime);
        push(0);
        dynamo_stream_finish(stream, NULL, NULL);
        dynamo_request_destroy(request);
    }

    dynamo_request_t *const request = sent(runtime);
    for (int i = 0; i < calls; ++i) {
        dynamo_response_t *response = NULL;
        size_t count = 0;
        push((uint32_t)i);
        check(dynamo_request_next(request, 0, &response) == DYNAMO_OK, "next");
        dynamo_response_token_ids(response, &count);
        check(count == 1, "token_ids");
        dynamo_free(response);
    }
    for (int i = 0; i < calls; ++i) { /* that a reader gets together */
        push((uint32_t)i);
    }
    dynamo_stream_finish(stream, NULL, NULL);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
