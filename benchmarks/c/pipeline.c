/* SPDX-License-Identifier: Apache-2.0 */
/* Compares a token-level engine in C whose tokens become text with the same engine without the pipeline.
 *
 *   pipeline FOLDER TOKENS
 *
 * FOLDER has the tokenizer. A round sends TOKENS tokens each way. Prints tokens and the seconds of both. */
#include <dynamo_llm/engine.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "bench.h"

static char description[1024];
static size_t wanted;
static pthread_t producer;

static void *produce(void *argument) {
    dynamo_stream_t *const stream = argument;
    for (size_t i = 0; i < wanted; ++i) {
        const uint32_t id = (uint32_t)(10 + i % 200); /* none of them ends an answer */
        dynamo_chunk_t chunk = {.struct_size = sizeof chunk};
        chunk.token_ids = &id;
        chunk.token_count = 1;
        int32_t status;
        while ((status = dynamo_stream_push(stream, &chunk)) == DYNAMO_PENDING) {
            dynamo_stream_wait(stream, -1);
        }
        /* The last token completes the answer. */
        check(status == DYNAMO_OK || i + 1 == wanted, "push");
    }
    dynamo_stream_finish(stream, "length", NULL);
    return NULL;
}

static int32_t start_engine(void *user, const char *config_json, void **instance) {
    (void)config_json;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)instance, (void)request_id, (void)request_json;
    check(pthread_create(&producer, NULL, produce, stream) == 0, "no thread");
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop_engine(void *instance) {
    (void)instance;
}

static const char *describe(void *instance) {
    (void)instance;
    return description;
}

static const dynamo_engine_t engine = {
    .struct_size = sizeof engine,
    .start = start_engine,
    .generate = generate,
    .cancel = cancel,
    .stop = stop_engine,
    .kind = DYNAMO_ENGINE_TOKENS,
    .describe = describe,
};

static double answer(dynamo_runtime_t *runtime, const char *body, int has_text) {
    dynamo_request_t *const request = completion(body);
    const double begin = now();
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    size_t tokens = 0, bytes = 0;
    dynamo_response_t *response = NULL;
    int32_t status;
    while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
        size_t count = 0;
        dynamo_response_token_ids(response, &count);
        tokens += count;
        dynamo_response_text(response, &count);
        bytes += count;
        dynamo_free(response);
    }
    const double seconds = now() - begin;
    check(status == DYNAMO_END && tokens == wanted && (bytes > 0) == has_text, "the answer");
    pthread_join(producer, NULL);
    dynamo_request_destroy(request);
    return seconds;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: pipeline FOLDER TOKENS\n");
        return 2;
    }
    wanted = (size_t)atol(argv[2]);
    snprintf(description, sizeof description, "{\"path\": \"%s\", \"context_length\": 1073741824}",
             argv[1]);
    check(dynamo_engine_register("counter", &engine, NULL, NULL) == DYNAMO_OK, "register");
    dynamo_runtime_t *const with = start("{\"engine\": \"counter\"}");
    dynamo_runtime_t *const without = start("{\"engine\": \"counter\", \"pipeline\": \"off\"}");
    char body[256], plain[256];
    snprintf(body, sizeof body,
             "{\"prompt\": [5], \"max_tokens\": %zu, \"stream\": true, \"stop\": [\"never said\", "
             "\"nor this\"]}",
             wanted);
    snprintf(plain, sizeof plain, "{\"prompt\": [5], \"max_tokens\": %zu, \"stream\": true}",
             wanted);
    for (int go = ready(); go; go = another_round()) {
        const double seconds = answer(with, body, 1);
        const double base_seconds = answer(without, plain, 0);
        printf("{\"tokens\": %zu, \"seconds\": %.9f, \"base_seconds\": %.9f}\n", wanted, seconds,
               base_seconds);
    }
    dynamo_runtime_destroy(without);
    dynamo_runtime_destroy(with);
    return 0;
}
