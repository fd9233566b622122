/* SPDX-License-Identifier: Apache-2.0 */
/* An engine in a shared library. It answers with what its library has counted. The environment variable
 * DYNAMO_TEST_ENTRY makes its entry function misbehave. */
#include <dynamo_llm/engine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int the_entries;
static int the_starts;

static int32_t start(void *user, const char *config_json, void **instance) {
    if (strstr(config_json, "\"engine\"") == NULL || strcmp(user, "the user pointer") != 0)
        return dynamo_engine_error(DYNAMO_ERROR_INTERNAL, "wrong arguments", NULL);
    __atomic_add_fetch(&the_starts, 1, __ATOMIC_RELAXED);
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)instance, (void)request_id, (void)request_json;
    char text[64];
    snprintf(text, sizeof text, "entries %d, starts %d",
             __atomic_load_n(&the_entries, __ATOMIC_RELAXED),
             __atomic_load_n(&the_starts, __ATOMIC_RELAXED));
    dynamo_chunk_t chunk = {0};
    chunk.struct_size = sizeof chunk;
    chunk.text = text;
    chunk.text_length = strlen(text);
    dynamo_stream_push(stream, &chunk);
    return dynamo_stream_finish(stream, "stop", NULL);
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    dynamo_stream_finish(stream, NULL, NULL);
}

static void stop(void *instance) {
    (void)instance;
}

static void metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance;
    write(context, "# TYPE library_answers gauge\nlibrary_answers 1\n");
}

static const dynamo_engine_t the_engine = {
    .struct_size = sizeof the_engine,
    .start = start,
    .generate = generate,
    .cancel = cancel,
    .stop = stop,
    .metrics = metrics,
};
static dynamo_engine_t wrong_engine;
static char the_user[] = "the user pointer";

DYNAMO_ENGINE_EXPORT int32_t dynamo_engine_entry(uint32_t host_abi,
                                                 dynamo_engine_library_t *library) {
    const char *const how = getenv("DYNAMO_TEST_ENTRY");
    const char *const mode = how == NULL ? "" : how;
    if (host_abi != DYNAMO_LLM_ABI_VERSION || library->struct_size < sizeof *library)
        return DYNAMO_ERROR_INTERNAL;
    if (strcmp(mode, "refuse") == 0)
        return dynamo_engine_error(DYNAMO_ERROR_SYSTEM, "the device is busy", "{\"device\": 7}");
    if (strcmp(mode, "fail silently") == 0)
        return DYNAMO_ERROR_ENGINE_UNAVAILABLE;
    library->engine = strcmp(mode, "no engine") == 0 ? NULL : &the_engine;
    if (strcmp(mode, "small") == 0 || strcmp(mode, "no start") == 0) {
        wrong_engine = the_engine;
        wrong_engine.struct_size = strcmp(mode, "small") == 0 ? 8 : sizeof wrong_engine;
        wrong_engine.start = NULL;
        library->engine = &wrong_engine;
    }
    library->abi_version = strcmp(mode, "other ABI") == 0 ? 99 : DYNAMO_LLM_ABI_VERSION;
    library->version = strcmp(mode, "newer") == 0        ? "999.0.0"
                       : strcmp(mode, "no version") == 0 ? NULL
                                                         : DYNAMO_LLM_VERSION_STRING;
    library->user = the_user;
    if (*mode == '\0')
        __atomic_add_fetch(&the_entries, 1, __ATOMIC_RELAXED);
    return DYNAMO_OK;
}
