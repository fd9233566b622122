/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller pays beside busy Python: dynamo_request_send() to a Python engine against a call
 * that takes the GIL, while a Python thread spins. The two alternate in one run, so that both meet
 * the same machine, each after a pause in which the spinning thread gets the GIL back.
 *
 *   gcc -O2 -o send_busy_gil benchmarks/send_busy_gil.c $(dynamo-llm config --cflags --libs) -ldl
 *   ./send_busy_gil benchmarks [PAIRS]
 *
 * Prints JSON: microseconds at the median, the 99th percentile and the maximum, and the ratios of
 * the two. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <dynamo_llm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void pause_2ms(void) {
    const struct timespec t = {0, 2000000};
    nanosleep(&t, NULL);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at(const double *sorted, int count, double quantile) {
    return sorted[(int)(quantile * (count - 1) + 0.5)];
}

static void check(int is_ok, const char *what) {
    if (!is_ok) {
        fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    const int pairs = argc > 2 ? atoi(argv[2]) : 1000;
    if (argc < 2 || pairs < 1) {
        fprintf(stderr, "usage: send_busy_gil FOLDER_OF_one_token.py [PAIRS]\n");
        return 2;
    }
    char config[4096];
    snprintf(config, sizeof config,
             "{\"engine\": \"one_token:OneToken\", \"python\": {\"path\": [\"%s\"]}}", argv[1]);
    dynamo_runtime_t *runtime = dynamo_runtime_create(config);
    check(runtime != NULL, "cannot start");

    /* The library made CPython's names visible; a program that embeds by hand would call these. */
    int (*ensure)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
    void (*release)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "PyGILState_Release");
    int (*run)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "PyRun_SimpleString");
    check(ensure != NULL && release != NULL && run != NULL, "no Python in this process");
    int state = ensure();
    run("import threading\n"
        "def spin():\n"
        "    while True: pass\n"
        "threading.Thread(target=spin, daemon=True).start()\n");
    release(state);

    double *send = malloc(sizeof(double) * (size_t)pairs);
    double *gil = malloc(sizeof(double) * (size_t)pairs);
    for (int i = 0; i < pairs; ++i) {
        dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"go\"}");
        pause_2ms();
        double start = now_us();
        int32_t status = dynamo_request_send(runtime, request);
        send[i] = now_us() - start;
        check(status == DYNAMO_OK, "cannot send");

        dynamo_response_t *response;
        while ((response = dynamo_request_recv(request)) != NULL) {
            dynamo_free(response);
        }
        check(dynamo_last_status() == DYNAMO_END, "request failed");
        dynamo_request_destroy(request);

        pause_2ms();
        start = now_us();
        state = ensure();
        release(state);
        gil[i] = now_us() - start;
    }
    qsort(send, (size_t)pairs, sizeof(double), ascending);
    qsort(gil, (size_t)pairs, sizeof(double), ascending);
    printf(
        "{\"pairs\": %d,\n \"send_us\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f},\n"
        " \"gil_us\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f},\n"
        " \"ratio_p50\": %.0f, \"ratio_p99\": %.0f}\n",
        pairs, at(send, pairs, 0.5), at(send, pairs, 0.99), at(send, pairs, 1), at(gil, pairs, 0.5),
        at(gil, pairs, 0.99), at(gil, pairs, 1), at(gil, pairs, 0.5) / at(send, pairs, 0.5),
        at(gil, pairs, 0.99) / at(send, pairs, 0.99));
    free(send);
    free(gil);
    dynamo_runtime_destroy(runtime);
    return 0;
}
