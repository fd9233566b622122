/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the time from dynamo_request_cancel() until the engine has finished with the request.
 *
 *   cancel CONFIG COUNT WHERE
 *
  * WHERE is the request's state when it is cancelled: "queue" (queued, since the runtime runs one request at a time),
 * "prefill" (before the first response), or "decode" (after the first response). A round cancels COUNT requests, one
 * by one. */
#include <string.h>

#include "bench.h"

/* Returns the number of running or queued requests, depending on `key`. */
static long count_of(dynamo_runtime_t *runtime, const char *key) {
    char *const statistics = dynamo_runtime_statistics(runtime);
    check(statistics != NULL, "statistics");
    const char *const place = strstr(statistics, key);
    check(place != NULL, key);
    const long count = atol(place + strlen(key));
    dynamo_free(statistics);
    return count;
}

static void wait_for(dynamo_runtime_t *runtime, const char *key, long wanted) {
    const double limit = now() + 10;
    while (count_of(runtime, key) != wanted) {
        check(now() < limit, "it took more than 10 s");
    }
}

static dynamo_request_t *sent(dynamo_runtime_t *runtime, const char *prompt) {
    dynamo_request_t *const request = completion(prompt);
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    return request;
}

static double cancel(dynamo_runtime_t *runtime, dynamo_request_t *request, const char *key,
                     long left) {
    const double begin = now();
    check(dynamo_request_cancel(request) == DYNAMO_OK, "cancel");
    wait_for(runtime, key, left);
    const double seconds = now() - begin;
    dynamo_request_destroy(request);
    return seconds;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: cancel CONFIG COUNT WHERE\n");
        return 2;
    }
    const char *const running = "\"in_flight\":", *const queued = "\"queued\":";
    const int count = atoi(argv[2]);
    const int is_queued = strcmp(argv[3], "queue") == 0;
    const int is_decoding = strcmp(argv[3], "decode") == 0;
    dynamo_runtime_t *const runtime = start(argv[1]);
    double *const seconds = malloc(sizeof(double) * (size_t)count);
    for (int go = ready(); go; go = another_round()) {
        dynamo_request_t *const first = is_queued ? sent(runtime, "decode") : NULL;
        for (int i = 0; i < count; ++i) {
            dynamo_request_t *const request = sent(runtime, argv[3]);
            if (is_queued) {
                wait_for(runtime, queued, 1);
                seconds[i] = cancel(runtime, request, queued, 0);
            } else {
                if (is_decoding) {
                    dynamo_response_t *response = NULL;
                    check(dynamo_request_next(request, -1, &response) == DYNAMO_OK, "no word");
                    dynamo_free(response);
                } else {
                    const struct timespec millisecond = {0, 1000000};
                    nanosleep(&millisecond, NULL); /* until the prefill runs */
                }
                seconds[i] = cancel(runtime, request, running, 0);
            }
        }
        if (first != NULL) {
            cancel(runtime, first, running, 0);
        }
        sort_numbers(seconds, count);
        printf("{\"p50_ms\": %.4f, \"p99_ms\": %.4f}\n", quantile(seconds, count, 0.5) * 1e3,
               quantile(seconds, count, 0.99) * 1e3);
    }
    free(seconds);
    dynamo_runtime_destroy(runtime);
    return 0;
}
