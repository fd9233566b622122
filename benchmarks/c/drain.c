/* SPDX-License-Identifier: Apache-2.0 */
/* Measures how fast the tokens of many streams reach a reader in C.
 *
 *   drain CONFIG PROMPT STREAMS READERS [BURSTS]
 *
 * A round sends STREAMS requests and reads all answers, BURSTS times: a single stream with dynamo_request_next(), several
 * streams through one queue for each of the READERS. Prints tokens, seconds, seconds of CPU time, and the median of the
 * seconds to the first token. */
#include <pthread.h>
#include <string.h>

#include "bench.h"

struct reader {
    pthread_t thread;
    dynamo_queue_t *queue;
    int streams;
    size_t tokens;
};

/* One request: when it was sent, and the seconds to its first token. */
struct sent {
    double at;
    double first;
};

static void note_first(struct sent *sent) {
    if (sent->first == 0) {
        sent->first = now() - sent->at;
    }
}

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
            note_first(event.user);
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

static size_t drain_one(dynamo_runtime_t *runtime, const char *prompt, struct sent *sent) {
    dynamo_request_t *const request = completion(prompt);
    sent->at = now();
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    size_t tokens = 0;
    dynamo_response_t *response = NULL;
    int32_t status = DYNAMO_OK;
    while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
        note_first(sent);
        tokens += tokens_of(response);
        dynamo_free(response);
    }
    check(status == DYNAMO_END, "the answer failed");
    dynamo_request_destroy(request);
    return tokens;
}

/* Sends the requests and reads the answers. Returns the number of tokens. */
static size_t burst(dynamo_runtime_t *runtime, const char *prompt, struct sent *sent, int streams,
                    struct reader *readers, int count) {
    if (streams == 1) {
        return drain_one(runtime, prompt, sent);
    }
    size_t tokens = 0;
    for (int i = 0; i < count; ++i) {
        readers[i].tokens = 0;
        readers[i].streams = streams / count + (i < streams % count);
        readers[i].queue = dynamo_queue_create();
        check(readers[i].queue != NULL, "no queue");
        pthread_create(&readers[i].thread, NULL, read_queue, &readers[i]);
    }
    for (int i = 0; i < streams; ++i) {
        dynamo_request_t *const request = completion(prompt);
        check(dynamo_request_set_queue(request, readers[i % count].queue, &sent[i]) == DYNAMO_OK,
              "set_queue");
        sent[i].at = now();
        check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    }
    for (int i = 0; i < count; ++i) {
        pthread_join(readers[i].thread, NULL);
        tokens += readers[i].tokens;
        dynamo_queue_destroy(readers[i].queue);
    }
    return tokens;
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: drain CONFIG PROMPT STREAMS READERS [BURSTS]\n");
        return 2;
    }
    const int streams = atoi(argv[3]);
    const int count = atoi(argv[4]);
    const int bursts = argc == 6 ? atoi(argv[5]) : 1;
    dynamo_runtime_t *const runtime = start(argv[1]);
    struct reader *const readers = calloc((size_t)count, sizeof *readers);
    struct sent *const sent = calloc((size_t)streams, sizeof *sent);
    double *const firsts = calloc((size_t)(streams * bursts), sizeof *firsts);
    for (int go = ready(); go; go = another_round()) {
        size_t tokens = 0;
        const double cpu_before = cpu();
        const double begin = now();
        for (int i = 0; i < bursts; ++i) {
            memset(sent, 0, (size_t)streams * sizeof *sent);
            tokens += burst(runtime, argv[2], sent, streams, readers, count);
            for (int j = 0; j < streams; ++j) {
                firsts[i * streams + j] = sent[j].first;
            }
        }
        const double seconds = now() - begin;
        sort_numbers(firsts, streams * bursts);
        printf("{\"tokens\": %zu, \"seconds\": %.9f, \"cpu\": %.9f, \"first\": %.9f}\n", tokens,
               seconds, cpu() - cpu_before, quantile(firsts, streams * bursts, 0.5));
    }
    free(firsts);
    free(sent);
    free(readers);
    dynamo_runtime_destroy(runtime);
    return 0;
}
