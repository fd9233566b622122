/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the benchmark programs. benchmarks/programs.py drives each of them: the program prints a line when it is
 * ready, runs a round for each line it reads, and prints the result as a line of JSON. */
#ifndef BENCH_H
#define BENCH_H

#include <dynamo_llm.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Returns the seconds of a monotonic clock. */
static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Returns the seconds of CPU time that this process has used. */
static inline double cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Ends the program with the library's last error unless `is_ok`. */
static inline void check(int is_ok, const char *what) {
    if (!is_ok) {
        fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
        exit(1);
    }
}

static inline int bench_ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void sort_numbers(double *numbers, int count) {
    qsort(numbers, (size_t)count, sizeof *numbers, bench_ascending);
}

/* Returns a quantile of sorted numbers. */
static inline double quantile(const double *sorted, int count, double which) {
    return sorted[(int)(which * (count - 1) + 0.5)];
}

/* Waits for the request to run another round; returns 0 at the end of the input. */
static inline int another_round(void) {
    char line[64];
    fflush(stdout);
    return fgets(line, sizeof line, stdin) != NULL;
}

static inline int ready(void) {
    printf("ready\n");
    return another_round();
}

static inline dynamo_runtime_t *start(const char *config) {
    dynamo_runtime_t *runtime = dynamo_runtime_create(config);
    check(runtime != NULL, "the runtime did not start");
    return runtime;
}

/* Creates a completion. `prompt` may also be a whole body in JSON. */
static inline dynamo_request_t *completion(const char *prompt) {
    char body[256];
    snprintf(body, sizeof body, "{\"prompt\": \"%s\", \"stream\": true}", prompt);
    dynamo_request_t *request = dynamo_request_create(prompt[0] == '{' ? prompt : body);
    check(request != NULL, "no request");
    return request;
}

#endif
