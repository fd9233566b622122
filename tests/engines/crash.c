/* SPDX-License-Identifier: Apache-2.0 */
/* A shared library with an engine in C, "crash": says the prompt, then ends the process as its first word says. */
#include <dynamo_llm/engine.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char the_instance;

static int32_t start(void *user, const char *config_json, void **instance) {
    (void)user;
    if (strstr(config_json, "\"refuse\"") != NULL)
        return dynamo_engine_error(DYNAMO_ERROR_MODEL_NOT_FOUND, "there is no such model", NULL);
    if (strstr(config_json, "\"crash at start\"") != NULL)
        abort();
    *instance = &the_instance;
    return DYNAMO_OK;
}

static void *crash(void *how) {
    usleep(200000); /* what was pushed leaves the process */
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "segfault") == 0)
        *(volatile int *)8 = 1;
    if (strcmp(how, "exit") == 0)
        exit(6);
    char *volatile block = malloc(24);
    free(block);
    free(block);
    return NULL;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)instance, (void)request_id;
    const char *const prompt = strstr(request_json, "\"prompt\"");
    if (prompt == NULL)
        return dynamo_engine_error(DYNAMO_ERROR_NOT_SUPPORTED, "it takes prompts", "{\"why\": 7}");
    dynamo_chunk_t chunk = {0};
    chunk.struct_size = sizeof chunk;
    chunk.text = "before";
    chunk.text_length = strlen(chunk.text);
    dynamo_stream_push(stream, &chunk);
    if (strstr(prompt, "hang") != NULL)
        pause(); /* in the thread that sends */
    if (strstr(prompt, "good") == NULL) {
        pthread_t thread;
        const char *const how = strstr(prompt, "abort") != NULL      ? "abort"
                                : strstr(prompt, "segfault") != NULL ? "segfault"
                                : strstr(prompt, "exit") != NULL     ? "exit"
                                                                     : "corrupt";
        if (pthread_create(&thread, NULL, crash, (void *)how) == 0)
            pthread_detach(thread);
        return DYNAMO_OK;
    }
    const dynamo_usage_t usage = {sizeof usage, 1, 1, 0};
    return dynamo_stream_finish(stream, "stop", &usage);
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    dynamo_stream_fail(stream, DYNAMO_ERROR_CANCELLED, "it was cancelled", NULL);
}

static void stop(void *instance) {
    (void)instance;
}

static const char *describe(void *instance) {
    (void)instance;
    return "{\"context_length\": 77, \"request_keys\": [\"shape\"]}";
}

static void metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance;
    write(context, "# TYPE crash_risk gauge\ncrash_risk 0.5\n");
}

int32_t dynamo_llm_register_engines(void);
int32_t dynamo_llm_register_engines(void) {
    dynamo_engine_t engine = {0};
    engine.struct_size = sizeof engine;
    engine.start = start;
    engine.generate = generate;
    engine.cancel = cancel;
    engine.stop = stop;
    engine.describe = describe;
    engine.metrics = metrics;
    return dynamo_engine_register("crash", &engine, NULL, NULL);
}
