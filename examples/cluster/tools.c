/* Serves an endpoint that is not a model to an NVIDIA Dynamo cluster: it takes any JSON, and answers with two payloads.
 *
 *     gcc -o tools tools.c -pthread $(dynamo-llm config --cflags --libs)
 *     ./tools '{"discovery": "file", "path": "/tmp/cluster"}'
 *
 * Prints what it serves. call.c calls it: ./call tools.call '{"question": 1}' '{"discovery": "file", "path": "/tmp/cluster"}'
 * prints
 *
 *     {"bytes": 15}
 *     {"echo": {"question": 1}}
 *
 * On Ctrl-C or SIGTERM the worker accepts no new requests and completes those in flight. */
#include <dynamo_llm/engine.h>
#include <dynamo_llm/worker.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *message) {
    fprintf(stderr, "tools: %s\n", message);
    return 1;
}

/* begin engine */
static int32_t start(void *user, const char *config_json, void **instance) {
    (void)config_json;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t push(dynamo_stream_t *stream, const char *json, size_t length) {
    const dynamo_data_t data = {.bytes = json, .length = length, .kind = DYNAMO_DATA_JSON};
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .data = &data};
    return dynamo_stream_push(stream, &chunk);
}

/* Answers at once. An engine that computes would copy the request here, and push from its own thread. */
static int32_t generate_data(void *instance, dynamo_stream_t *stream, const char *request_id,
                             const dynamo_data_t *request) {
    (void)instance, (void)request_id;
    if (request->kind != DYNAMO_DATA_JSON)
        return dynamo_engine_error(DYNAMO_ERROR_INVALID_REQUEST, "the request must be JSON", NULL);
    char size[64];
    const int size_length = snprintf(size, sizeof size, "{\"bytes\": %zu}", request->length);
    char *echo = malloc(request->length + 16);
    if (echo == NULL)
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "no memory for the answer", NULL);
    const int echo_length = snprintf(echo, request->length + 16, "{\"echo\": %.*s}",
                                     (int)request->length, (const char *)request->bytes);
    int32_t status = push(stream, size, (size_t)size_length);
    if (status == DYNAMO_OK)
        status = push(stream, echo, (size_t)echo_length);
    free(echo);
    if (status == DYNAMO_OK || status == DYNAMO_ERROR_CANCELLED)
        dynamo_stream_finish(stream, "stop", NULL);
    else
        dynamo_stream_fail(stream, DYNAMO_ERROR_ENGINE_FAILED, "the answer cannot be pushed", NULL);
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream; /* generate_data() is never under way for long */
}

static void stop(void *instance) {
    (void)instance;
}

static const dynamo_engine_t engine = {
    .struct_size = sizeof engine,
    .start = start,
    .cancel = cancel,
    .stop = stop,
    .kind = DYNAMO_ENGINE_DATA,
    .generate_data = generate_data,
};
/* end engine */

int main(int argc, char **argv) {
    if (argc != 2)
        return fail("usage: tools CLUSTER_JSON");
    /* Blocks the signals here, and thereby in all threads of the library; the main thread waits for them below. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    if (dynamo_engine_register("tools", &engine, NULL, NULL) != DYNAMO_OK)
        return fail(dynamo_last_error());
    char config[4096];
    const int length = snprintf(config, sizeof config,
                                "{\"cluster\": %s, \"endpoint\": \"tools.call\","
                                " \"runtime\": {\"engine\": \"tools\"}}",
                                argv[1]);
    if (length < 0 || (size_t)length >= sizeof config)
        return fail("the argument is too long");
    dynamo_worker_t *worker = dynamo_worker_create(config);
    if (worker == NULL)
        return fail(dynamo_last_error());
    char *info = dynamo_worker_info(worker);
    printf("%s\n", info == NULL ? dynamo_last_error() : info);
    fflush(stdout);
    dynamo_free(info);

    int signal_number;
    sigwait(&signals, &signal_number);
    const int32_t status = dynamo_worker_shutdown(worker, 30000);
    if (status != DYNAMO_OK)
        fprintf(stderr, "tools: %s\n", dynamo_last_error());
    dynamo_worker_destroy(worker);
    return status == DYNAMO_OK ? 0 : 1;
}
