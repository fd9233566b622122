/* SPDX-License-Identifier: Apache-2.0 */
/* Creating and destroying runtimes repeatedly leaks nothing. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"

static long threads(void) {
    return count_of("/proc/self/task");
}
static long descriptors(void) {
    return count_of("/proc/self/fd");
}

static long resident_kb(void) {
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL);
    char line[256];
    long kilobytes = -1;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kilobytes = atol(line + 6);
        }
    }
    fclose(file);
    return kilobytes;
}

static void light_round(void) {
    dynamo_runtime_t *runtime = start_engine("echoes:Threaded", "");
    check_says(runtime, "a b", "a b ");
    dynamo_runtime_destroy(runtime);
}

static void heavy_round(void) {
    dynamo_runtime_t *runtime = start("{}");
    dynamo_request_t *request = sent(runtime, say("A KV cache"));
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    answer_free(&whole);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

/* Maximum number of threads in asyncio's pool for blocking calls, the default of Python's ThreadPoolExecutor. The pool
 * starts one whenever no other is idle. */
static long pool_threads(void) {
    const long most = sysconf(_SC_NPROCESSORS_ONLN) + 4;
    return most < 32 ? most : 32;
}

/* Threads and descriptors of stopped engines may disappear with a delay; a leak never disappears. */
static void check_rounds(void (*round)(void), int first, int count, long more_kb) {
    for (int i = 0; i < first; ++i) {
        round();
    }
    const long threads_before = threads();
    const long descriptors_before = descriptors();
    const long kb_before = resident_kb();
    for (int i = 0; i < count; ++i) {
        round();
    }
    EVENTUALLY(threads() <= threads_before + pool_threads());
    EVENTUALLY(descriptors() <= descriptors_before);
    const long grown = resident_kb() - kb_before;
    fprintf(stderr, "    %ld threads, %ld descriptors, %ld kB more\n", threads(), descriptors(),
            grown);
    CHECK(has_sanitizer("") || grown < more_kb);
}

static void light_engines(void) {
    check_rounds(light_round, 20, (int)(200 * scale()) + 1, 8 * 1024);
}
static void demo_models(void) {
    check_rounds(heavy_round, 5, (int)(20 * scale()) + 1, 64 * 1024);
}

int main(void) {
    BEGIN();
    RUN(light_engines);
    RUN(demo_models);
    return 0;
}
