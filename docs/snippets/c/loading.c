/* gcc -o loading loading.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm/engine.h>
#include <stdio.h>
#include <unistd.h>

static const uint64_t size = 4000;

static uint64_t load_part(void) {
    usleep(10000);
    return 1000;
}

/* begin */
static int32_t start(void *user, const char *config_json, void **instance) {
    (void)user, (void)config_json, (void)instance;
    dynamo_progress_t progress = {
        .struct_size = sizeof progress, .phase = "weights", .bytes_total = size};
    while (1) {
        if (dynamo_engine_progress(&progress) == DYNAMO_ERROR_CANCELLED)
            return DYNAMO_ERROR_CANCELLED; /* after freeing what was loaded */
        if (progress.bytes_done == size)
            return DYNAMO_OK;
        progress.bytes_done += load_part();
    }
}
/* end */

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)instance, (void)request_id, (void)request_json;
    return dynamo_stream_finish(stream, "stop", NULL);
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop(void *instance) {
    (void)instance;
}

static int done[2]; /* a pipe */

static void on_event(void *user, const dynamo_creation_event_t *event) {
    dynamo_runtime_t **runtime = user;
    if (event->progress != NULL && event->progress->fraction == 1)
        printf("%s: %d bytes\n", event->progress->phase, (int)event->progress->bytes_done);
    *runtime = event->runtime;
    if (event->status != DYNAMO_PENDING && write(done[1], "x", 1) != 1)
        perror("write");
}

int main(void) {
    dynamo_engine_t engine = {.struct_size = sizeof engine,
                              .start = start,
                              .generate = generate,
                              .cancel = cancel,
                              .stop = stop};
    dynamo_runtime_t *runtime = NULL;
    char byte;
    if (pipe(done) != 0 || dynamo_engine_register("mine", &engine, NULL, NULL) != DYNAMO_OK)
        return 1;
    dynamo_creation_t *creation =
        dynamo_runtime_create_async("{\"engine\": \"mine\"}", on_event, &runtime, NULL);
    if (creation == NULL || read(done[0], &byte, 1) != 1)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_creation_destroy(creation);
    printf("%s\n", runtime != NULL ? "ready" : "failed");
    dynamo_runtime_destroy(runtime);
    return 0;
}
