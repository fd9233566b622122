/* SPDX-License-Identifier: Apache-2.0 */
/* Built with the first headers of this ABI, run with the library of today: every struct crosses the border. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dynamo_llm.h"
#include "dynamo_llm/engine.h"

#define CHECK(condition) \
    ((condition)         \
         ? (void)0       \
         : (fprintf(stderr, "%d: %s; %s\n", __LINE__, #condition, dynamo_last_error()), exit(1)))

static int32_t start(void *user, const char *config, void **instance) {
    CHECK(strstr(config, "\"old\"") != NULL);
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *id, const char *body) {
    (void)instance;
    CHECK(strncmp(id, "req-", 4) == 0);
    if (strstr(body, "refuse") != NULL) {
        return dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, "not now", NULL);
    }
    static const uint32_t ids[] = {7, 8};
    dynamo_chunk_t chunk = {sizeof chunk, "hello", 5, ids, 2, 0, NULL, NULL, NULL, NULL};
    CHECK(dynamo_stream_push(stream, &chunk) == DYNAMO_OK);
    chunk.text = " there";
    chunk.text_length = 6;
    dynamo_push_t push = {stream, &chunk, DYNAMO_END};
    CHECK(dynamo_stream_push_many(&push, 1, sizeof push) == DYNAMO_OK && push.status == DYNAMO_OK);
    const dynamo_usage_t usage = {sizeof usage, 3, 4, 1};
    return dynamo_stream_finish(stream, "length", &usage);
}

static int32_t generate_data(void *instance, dynamo_stream_t *stream, const char *id,
                             const dynamo_data_t *data) {
    (void)instance, (void)id;
    dynamo_chunk_t chunk = {sizeof chunk, NULL, 0, NULL, 0, 0, NULL, NULL, NULL, data};
    CHECK(dynamo_stream_push(stream, &chunk) == DYNAMO_OK);
    return dynamo_stream_finish(stream, NULL, NULL);
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static int stopped;
static void stop(void *instance) {
    ++*(int *)instance;
}

int main(void) {
    CHECK(DYNAMO_LLM_VERSION_CHECK() == DYNAMO_OK);
    CHECK(dynamo_abi_version() == 1);
    dynamo_engine_t engine;
    memset(&engine, 0, sizeof engine);
    engine.struct_size = sizeof engine;
    engine.start = start;
    engine.generate = generate;
    engine.generate_data = generate_data;
    engine.cancel = cancel;
    engine.stop = stop;
    CHECK(dynamo_engine_register("old", &engine, &stopped, NULL) == DYNAMO_OK);
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"old\"}");
    CHECK(runtime != NULL);

    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"x\", \"stream\": false}");
    CHECK(request != NULL && dynamo_request_send(runtime, request) == DYNAMO_OK);
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK(response != NULL);
    size_t length, count;
    CHECK(strcmp(dynamo_response_text(response, &length), "hello there") == 0 && length == 11);
    CHECK(dynamo_response_token_ids(response, &count)[3] == 8 && count == 4);
    CHECK(strcmp(dynamo_response_finish_reason(response), "length") == 0);
    struct {
        dynamo_usage_t usage;
        char guard[8];
    } used = {{sizeof used.usage, 0, 0, 0}, "guarded"};
    CHECK(dynamo_response_usage(response, &used.usage) == DYNAMO_OK);
    CHECK(used.usage.prompt_tokens == 3 && used.usage.completion_tokens == 4);
    CHECK(used.usage.cached_tokens == 1 && strcmp(used.guard, "guarded") == 0);
    struct {
        dynamo_timing_t timing;
        char guard[8];
    } timed = {{sizeof timed.timing, -2, -2, -2}, "guarded"};
    CHECK(dynamo_request_timing(request, &timed.timing) == DYNAMO_OK);
    CHECK(timed.timing.queue_us >= 0 && timed.timing.first_token_us >= 0);
    CHECK(timed.timing.total_us >= timed.timing.first_token_us);
    CHECK(strcmp(timed.guard, "guarded") == 0);
    dynamo_free(response);
    CHECK(dynamo_request_recv(request) == NULL && dynamo_last_status() == DYNAMO_END);
    dynamo_request_destroy(request);

    request = dynamo_request_create_data(DYNAMO_DATA_BYTES, "\0\1", 2);
    CHECK(request != NULL && dynamo_request_send(runtime, request) == DYNAMO_OK);
    response = dynamo_request_recv(request);
    struct {
        dynamo_data_t data;
        char guard[8];
    } item = {{NULL, 0, 0}, "guarded"};
    CHECK(dynamo_response_item_count(response) == 1);
    CHECK(dynamo_response_item(response, 0, &item.data) == DYNAMO_OK);
    CHECK(item.data.length == 2 && memcmp(item.data.bytes, "\0\1", 2) == 0);
    CHECK(item.data.kind == DYNAMO_DATA_BYTES && strcmp(item.guard, "guarded") == 0);
    dynamo_free(response);
    dynamo_request_destroy(request);

    request = dynamo_request_create("{\"prompt\": \"refuse\"}");
    CHECK(dynamo_request_send(runtime, request) == DYNAMO_ERROR_OVERLOADED);
    CHECK(strcmp(dynamo_last_error(), "not now") == 0);
    dynamo_request_destroy(request);
    CHECK(dynamo_runtime_shutdown(runtime, 1000) == DYNAMO_OK && stopped == 1);
    dynamo_runtime_destroy(runtime);
    CHECK(dynamo_runtime_create("{\"engin\": 1}") == NULL);
    CHECK(dynamo_last_status() == DYNAMO_ERROR_INVALID_CONFIG);
    puts("works");
    return 0;
}
