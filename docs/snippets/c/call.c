/* gcc -o call call.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm/engine.h>
#include <stdio.h>
#include <string.h>

static int cached_blocks = 12;

static int32_t start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}
static int32_t generate(void *instance, dynamo_stream_t *stream, const char *id, const char *body) {
    (void)instance, (void)id, (void)body;
    return dynamo_stream_finish(stream, "stop", NULL);
}
static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}
static void stop(void *instance) {
    (void)instance;
}

/* begin engine */
static const char *describe(void *instance) {
    (void)instance;
    return "{\"calls\": [\"reset_prefix_cache\"]}";
}

static int32_t call(void *instance, dynamo_stream_t *stream, const char *call_id, const char *name,
                    const char *arguments_json) {
    (void)instance, (void)call_id, (void)name, (void)arguments_json;
    char result[64];
    snprintf(result, sizeof result, "{\"freed_blocks\": %d}", cached_blocks);
    cached_blocks = 0;
    const dynamo_data_t data = {result, strlen(result), DYNAMO_DATA_JSON};
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .data = &data};
    dynamo_stream_push(stream, &chunk);
    return dynamo_stream_finish(stream, NULL, NULL); /* or later, from another thread */
}
/* end engine */

static const dynamo_engine_t engine = {
    .struct_size = sizeof engine,
    .start = start,
    .generate = generate,
    .cancel = cancel,
    .stop = stop,
    .describe = describe,
    .call = call,
};

int main(void) {
    dynamo_engine_register("cached", &engine, &cached_blocks, NULL);
    /* begin */
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"cached\"}");
    char *result = dynamo_runtime_call(runtime, "reset_prefix_cache", "{}", 5000);
    puts(result != NULL ? result : dynamo_last_error());
    dynamo_free(result);
    if (dynamo_runtime_call(runtime, "reset_prefx_cache", "{}", 5000) == NULL)
        puts(dynamo_last_error());
    /* end */
    dynamo_runtime_destroy(runtime);
    return 0;
}
