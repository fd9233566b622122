/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs here share. Each is driven by benchmarks/programs.py: it prints a line when it is ready,
 * makes a round for each line that it reads, and prints what came of it as JSON in a line. */
#ifndef BENCH_H
#define BENCH_H

#include <dynamo_llm.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Seconds of a clock that only goes forward. */
static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Ends the program, with the library's reason, if something went wrong. */
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

/* Of sorted numbers. */
static inline double quantile(const double *sorted, int count, double which) {
    return sorted[(int)(which * (count - 1) + 0.5)];
}

/* Waits until another round is wanted; 0 if none is. */
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

/* A completion with that prompt; or with that body, if it is one. */
static inline dynamo_request_t *completion(const char *prompt) {
    char body[256];
    snprintf(body, sizeof body, "{\"prompt\": \"%s\", \"stream\": true}", prompt);
    dynamo_request_t *request = dynamo_request_create(prompt[0] == '{' ? prompt : body);
    check(request != NULL, "no request");
    return request;
}

#endif
