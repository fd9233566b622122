/* SPDX-License-Identifier: Apache-2.0 */
/* Measures a router: threads that select and reserve a worker, report the first token, and release the worker.
 *
 *   router CONFIG THREADS ROUTES TOKENS
 *
 * A round routes ROUTES requests with prompts of TOKENS tokens. Prints their number, the seconds, and the median and
 * the 99th percentile of the milliseconds that the three calls of a request take together. */
#include <dynamo_llm/router.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "bench.h"

static dynamo_router_t *router;
static int threads, routes_per_thread, token_count;
static double *milliseconds;
static pthread_barrier_t begin_round, end_round;

static void route(const uint32_t *tokens, const char *id) {
    dynamo_route_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.request_id = id;
    dynamo_selection_t *const selection =
        dynamo_router_select(router, tokens, (size_t)token_count, &options);
    check(selection != NULL, "select");
    dynamo_free(selection);
    check(dynamo_router_prefill_complete(router, id) == DYNAMO_OK, "prefill_complete");
    check(dynamo_router_free(router, id) == DYNAMO_OK, "free");
}

static void *run(void *number) {
    const int thread = (int)(intptr_t)number;
    uint32_t *const tokens = malloc((size_t)token_count * sizeof *tokens);
    check(tokens != NULL, "malloc");
    for (int i = 0; i < token_count; ++i) {
        tokens[i] = (uint32_t)(thread * token_count + i);
    }
    for (;;) {
        pthread_barrier_wait(&begin_round);
        for (int i = 0; i < routes_per_thread; ++i) {
            char id[32];
            snprintf(id, sizeof id, "%d-%d", thread, i);
            const double begin = now();
            route(tokens, id);
            milliseconds[thread * routes_per_thread + i] = (now() - begin) * 1e3;
        }
        pthread_barrier_wait(&end_round);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: router CONFIG THREADS ROUTES TOKENS\n");
        return 2;
    }
    threads = atoi(argv[2]);
    routes_per_thread = (atoi(argv[3]) + threads - 1) / threads;
    token_count = atoi(argv[4]);
    const int count = threads * routes_per_thread;
    milliseconds = malloc((size_t)count * sizeof *milliseconds);
    router = dynamo_router_create(argv[1]);
    check(router != NULL && milliseconds != NULL, "the router did not start");
    pthread_barrier_init(&begin_round, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&end_round, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; ++i) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, (void *)(intptr_t)i) != 0) {
            fprintf(stderr, "cannot start thread %d\n", i);
            return 1;
        }
        pthread_detach(thread);
    }
    for (int go = ready(); go; go = another_round()) {
        pthread_barrier_wait(&begin_round);
        const double begin = now();
        pthread_barrier_wait(&end_round);
        const double seconds = now() - begin;
        sort_numbers(milliseconds, count);
        printf("{\"routes\": %d, \"seconds\": %.9f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n", count,
               seconds, quantile(milliseconds, count, 0.5), quantile(milliseconds, count, 0.99));
    }
    dynamo_router_destroy(router);
    return 0;
}
