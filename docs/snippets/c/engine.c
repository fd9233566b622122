/* gcc -o engine engine.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm/engine.h>
#include <stdio.h>
#include <string.h>

/* begin */
/* An engine that answers at once. One that computes would start here and push from its own thread. */
static int32_t start(void *user, const char *config_json, void **instance) {
    (void)config_json;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)request_id;
    dynamo_json_t *body = dynamo_json_create(request_json);
    const int has_prompt = dynamo_json_type(body, "/prompt") == DYNAMO_JSON_STRING;
    dynamo_json_destroy(body);
    if (!has_prompt)
        return dynamo_engine_error(DYNAMO_ERROR_NOT_SUPPORTED, "it takes a \"prompt\" only", NULL);
    const char *answer = instance;
    dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .text = answer};
    chunk.text_length = strlen(answer);
    int32_t pushed = dynamo_stream_push(stream, &chunk);
    if (pushed == DYNAMO_OK || pushed == DYNAMO_ERROR_CANCELLED)
        dynamo_stream_finish(stream, "stop", NULL);
    else
        dynamo_stream_fail(stream, DYNAMO_ERROR_ENGINE_FAILED, "cannot push", NULL);
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream; /* generate() is never under way for long */
}

static void stop(void *instance) {
    (void)instance;
}

static const dynamo_engine_t engine = {
    .struct_size = sizeof engine,
    .start = start,
    .generate = generate,
    .cancel = cancel,
    .stop = stop,
};
/* end */

int main(void) {
    static char answer[] = "forty-two";
    /* begin use */
    if (dynamo_engine_register("oracle", &engine, answer, NULL) != DYNAMO_OK)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"oracle\"}");
    /* end use */
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"?\"}");
    dynamo_request_send(runtime, request);
    dynamo_response_t *response = dynamo_request_recv(request);
    printf("%s (%s)\n", dynamo_response_text(response, NULL),
           dynamo_response_finish_reason(response));
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}
