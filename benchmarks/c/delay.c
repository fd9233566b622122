/* SPDX-License-Identifier: Apache-2.0 */
/* Measures how long a token takes from its engine to a reader in C.
 *
 *   delay CONFIG PROMPT STREAMS
 *
  * A round sends STREAMS requests to an engine whose tokens are the times at which it generated them (Paced in
 * engines/tokens.py), and reads all answers through one queue. Prints tokens, seconds, and the median and 99th
 * percentile of the delays in microseconds. */
#include <string.h>

#include "bench.h"

struct delays {
    double *values;
    int count;
    int capacity;
};

/* A response may combine several tokens: " 123 456". */
static void add_delays(struct delays *self, const char *text, double arrival) {
    for (char *end; *text != '\0'; text = end) {
        const long long made = strtoll(text, &end, 10);
        check(end != text, "the text is not a list of times");
        if (self->count == self->capacity) {
            self->capacity = self->capacity == 0 ? 1024 : 2 * self->capacity;
            self->values = realloc(self->values, sizeof(double) * (size_t)self->capacity);
            check(self->values != NULL, "no memory");
        }
        self->values[self->count++] = arrival * 1e6 - (double)made / 1e3;
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: delay CONFIG PROMPT STREAMS\n");
        return 2;
    }
    const int streams = atoi(argv[3]);
    dynamo_runtime_t *const runtime = start(argv[1]);
    dynamo_queue_t *const queue = dynamo_queue_create();
    check(queue != NULL, "no queue");
    dynamo_event_t event;
    memset(&event, 0, sizeof event);
    event.struct_size = sizeof event;
    struct delays delays = {NULL, 0, 0};
    for (int go = ready(); go; go = another_round()) {
        delays.count = 0;
        const double begin = now();
        for (int i = 0; i < streams; ++i) {
            dynamo_request_t *const request = completion(argv[2]);
            check(dynamo_request_set_queue(request, queue, NULL) == DYNAMO_OK, "set_queue");
            check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
        }
        for (int left = streams; left > 0;) {
            check(dynamo_queue_next(queue, -1, &event) == DYNAMO_OK, "queue");
            if (event.response != NULL) {
                add_delays(&delays, dynamo_response_text(event.response, NULL), now());
                dynamo_free(event.response);
            } else {
                check(event.status == DYNAMO_END, dynamo_request_error(event.request));
                dynamo_request_destroy(event.request);
                --left;
            }
        }
        const double seconds = now() - begin;
        check(delays.count > 0, "no tokens");
        sort_numbers(delays.values, delays.count);
        printf("{\"tokens\": %d, \"seconds\": %.9f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
               delays.count, seconds, quantile(delays.values, delays.count, 0.5),
               quantile(delays.values, delays.count, 0.99));
    }
    free(delays.values);
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
    return 0;
}
