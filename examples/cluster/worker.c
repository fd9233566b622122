/* Serves a custom engine in C to an NVIDIA Dynamo cluster.
 *
 *     gcc -o worker worker.c ../engines/c/engine.c ../engines/babble.c -pthread \
 *         $(dynamo-llm config --cflags --libs)
 *     ./worker MODEL_FOLDER '{"discovery": "file", "path": "/tmp/cluster"}'
 *
  * MODEL_FOLDER contains the model's tokenizer, which clients and frontends read; they find the model under the name
 * "babble". Prints what it serves. On Ctrl-C or SIGTERM the worker accepts no new requests and completes those in
 * flight. */
#include <dynamo_llm/worker.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "../engines/c/engine.h"

static int fail(const char *message) {
    fprintf(stderr, "worker: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fail("usage: worker MODEL_FOLDER CLUSTER_JSON [ENDPOINT]");
    /* Blocks the signals here, and thereby in all threads of the library; the main thread waits for them below. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    if (dynamo_engine_register("babble", &engine_of_tokens, NULL, NULL) != DYNAMO_OK)
        return fail(dynamo_last_error());
    char config[4096];
    const int length =
        snprintf(config, sizeof config,
                 "{\"cluster\": %s, \"endpoint\": \"%s\","
                 " \"model\": {\"name\": \"babble\", \"path\": \"%s\", \"kv_block_size\": 16},"
                 " \"runtime\": {\"engine\": \"babble\", \"options\": {\"step_us\": 2000}}}",
                 argv[2], argc > 3 ? argv[3] : "dynamo.backend.generate", argv[1]);
    if (length < 0 || (size_t)length >= sizeof config)
        return fail("the arguments are too long");

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
        fprintf(stderr, "worker: %s\n", dynamo_last_error());
    dynamo_worker_destroy(worker);
    return status == DYNAMO_OK ? 0 : 1;
}
