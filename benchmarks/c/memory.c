/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the memory that requests use while they wait for their engine.
 *
 *   memory CONFIG STREAMS
 *
  * A round sends STREAMS requests, waits until the engine has received them all, prints the bytes of resident memory
 * added per request, and cancels them. */
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

static double resident(void) {
    long pages = 0;
    FILE *const file = fopen("/proc/self/statm", "r");
    check(file != NULL && fscanf(file, "%*s %ld", &pages) == 1, "/proc/self/statm");
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void settle(void) {
    const struct timespec t = {0, 300000000};
    nanosleep(&t, NULL);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: memory CONFIG STREAMS\n");
        return 2;
    }
    const int count = atoi(argv[2]);
    const double before_the_runtime = resident();
    dynamo_runtime_t *const runtime = start(argv[1]);
    const double runtime_bytes = resident() - before_the_runtime;
    dynamo_request_t **const requests = calloc((size_t)count, sizeof *requests);
    for (int go = ready(); go; go = another_round()) {
        settle();
        const double before = resident();
        for (int i = 0; i < count; ++i) {
            requests[i] = completion("1");
            check(dynamo_request_send(runtime, requests[i]) == DYNAMO_OK, "send");
        }
        settle(); /* the event loop has received all of them well before it returns */
        settle();
        const double after = resident();
        for (int i = 0; i < count; ++i) {
            dynamo_request_destroy(requests[i]);
        }
        printf("{\"bytes\": %.1f, \"runtime_bytes\": %.0f}\n", (after - before) / count,
               runtime_bytes);
    }
    free(requests);
    dynamo_runtime_destroy(runtime);
    return 0;
}
