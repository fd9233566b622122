/* SPDX-License-Identifier: Apache-2.0 */
/* Measures how fast the tokens of many streams reach a reader in C.
 *
 *   drain CONFIG PROMPT STREAMS READERS
 *
  * A round sends STREAMS requests and reads all answers: a single stream with dynamo_request_next(), several streams
 * through one queue for each of the READERS. Prints tokens and seconds. */
#include <pthread.h>
#include <string.h>

#include "bench.h"

struct reader {
    pthread_t thread;
    dynamo_queue_t *queue;
    int streams;
    size_t tokens;
};

static size_t tokens_of(const dynamo_response_t *response) {
    size_t count = 0;
    dynamo_response_token_ids(response, &count);
    return count;
}

static void *read_queue(void *argument) {
    struct reader *const self = argument;
    dynamo_event_t event;
    memset(&event, 0, sizeof event);
    event.struct_size = sizeof event;
    for (int left = self->streams; left > 0;) {
        check(dynamo_queue_next(self->queue, -1, &event) == DYNAMO_OK, "queue");
        if (event.response != NULL) {
            self->tokens += tokens_of(event.response);
            dynamo_free(event.response);
        } else {
            check(event.status == DYNAMO_END, dynamo_request_error(event.request));
            dynamo_request_destroy(event.request);
            --left;
        }
    }
    return NULL;
}

static size_t drain_one(dynamo_runtime_t *runtime, const char *prompt) {
    dynamo_request_t *const request = completion(prompt);
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    size_t tokens = 0;
    dynamo_response_t *response = NULL;
    int32_t status = DYNAMO_OK;
    while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
        tokens += tokens_of(response);
        dynamo_free(response);
    }
    check(status == DYNAMO_END, "the answer failed");
    dynamo_request_destroy(request);
    return tokens;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: drain CONFIG PROMPT STREAMS READERS\n");
        return 2;
    }
    const int streams = atoi(argv[3]);
    const int count = atoi(argv[4]);
    dynamo_runtime_t *const runtime = start(argv[1]);
    struct reader *const readers = calloc((size_t)count, sizeof *readers);
    for (int go = ready(); go; go = another_round()) {
        size_t tokens = 0;
        double begin = now();
        if (streams == 1) {
            tokens = drain_one(runtime, argv[2]);
        } else {
            for (int i = 0; i < count; ++i) {
                readers[i].tokens = 0;
                readers[i].streams = streams / count + (i < streams % count);
                readers[i].queue = dynamo_queue_create();
                check(readers[i].queue != NULL, "no queue");
                pthread_create(&readers[i].thread, NULL, read_queue, &readers[i]);
            }
            begin = now();
            for (int i = 0; i < streams; ++i) {
                dynamo_request_t *const request = completion(argv[2]);
                check(
                    dynamo_request_set_queue(request, readers[i % count].queue, NULL) == DYNAMO_OK,
                    "set_queue");
                check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
            }
            for (int i = 0; i < count; ++i) {
                pthread_join(readers[i].thread, NULL);
                tokens += readers[i].tokens;
                dynamo_queue_destroy(readers[i].queue);
            }
        }
        printf("{\"tokens\": %zu, \"seconds\": %.9f}\n", tokens, now() - begin);
    }
    free(readers);
    dynamo_runtime_destroy(runtime);
    return 0;
}
