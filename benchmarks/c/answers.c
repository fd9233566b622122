/* SPDX-License-Identifier: Apache-2.0 */
/* Streams answers one after the other, like a program that shows an answer as it arrives.
 *
 *   answers CONFIG BODY COUNT
 *
  * A round streams COUNT answers to the OpenAI body. Prints tokens as counted by the runtime, seconds, and the median
 * time to first token in milliseconds. */
#include <string.h>

#include "bench.h"

static long pushed(dynamo_runtime_t *runtime) {
    static const char key[] = "\"pushed\":";
    char *const statistics = dynamo_runtime_statistics(runtime);
    const char *const place = statistics == NULL ? NULL : strstr(statistics, key);
    check(place != NULL, "statistics");
    const long count = atol(place + strlen(key));
    dynamo_free(statistics);
    return count;
}

/* Reads one answer and returns the seconds to its first token. */
static double read_answer(dynamo_runtime_t *runtime, const char *body) {
    const double begin = now();
    double first = 0;
    dynamo_request_t *const request = dynamo_request_create(body);
    check(request != NULL, "no request");
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    dynamo_response_t *response = NULL;
    int32_t status;
    while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
        if (first == 0) {
            first = now() - begin;
        }
        dynamo_free(response);
    }
    check(status == DYNAMO_END, "the answer failed");
    dynamo_request_destroy(request);
    return first;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: answers CONFIG BODY COUNT\n");
        return 2;
    }
    const int count = atoi(argv[3]);
    dynamo_runtime_t *const runtime = start(argv[1]);
    double *const firsts = malloc(sizeof(double) * (size_t)count);
    for (int go = ready(); go; go = another_round()) {
        const long before = pushed(runtime);
        const double begin = now();
        for (int i = 0; i < count; ++i) {
            firsts[i] = read_answer(runtime, argv[2]);
        }
        const double seconds = now() - begin;
        sort_numbers(firsts, count);
        printf("{\"tokens\": %ld, \"seconds\": %.9f, \"ttft_ms\": %.4f}\n",
               pushed(runtime) - before, seconds, quantile(firsts, count, 0.5) * 1e3);
    }
    free(firsts);
    dynamo_runtime_destroy(runtime);
    return 0;
}
