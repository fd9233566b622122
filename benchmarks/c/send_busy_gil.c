/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the cost of a call while Python is busy: compares dynamo_request_send() to a Python engine with a call that
 * acquires the GIL, while a Python thread spins. Bursts of sends and calls alternate in one run, so that both see the
 * same conditions. During a pause before each burst, the spinning thread gets the GIL back.
 *
 *   gcc -O2 -o send_busy_gil benchmarks/c/send_busy_gil.c $(dynamo-llm config --cflags --libs) -ldl
 *   ./send_busy_gil benchmarks [BURSTS]
 *
  * Prints JSON: median, 99th percentile, and maximum in microseconds; the same for the first send of each burst, which
 * wakes the engine's thread; and the ratios of calls to sends. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "bench.h"

enum { burst = 128 };

static void pause_2ms(void) {
    const struct timespec t = {0, 2000000};
    nanosleep(&t, NULL);
}

static void print_quantiles(const char *name, double *seconds, int count) {
    sort_numbers(seconds, count);
    printf("\"%s\": {\"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f},\n ", name,
           quantile(seconds, count, 0.5) * 1e6, quantile(seconds, count, 0.99) * 1e6,
           seconds[count - 1] * 1e6);
}

int main(int argc, char **argv) {
    const int bursts = argc > 2 ? atoi(argv[2]) : 200;
    if (argc < 2 || bursts < 1) {
        fprintf(stderr, "usage: send_busy_gil FOLDER_OF_engines [BURSTS]\n");
        return 2;
    }
    char config[4096];
    snprintf(config, sizeof config,
             "{\"engine\": \"engines.one_token:OneToken\", \"python\": {\"path\": [\"%s\"]}}",
             argv[1]);
    dynamo_runtime_t *const runtime = start(config);

    /* The library loaded CPython with global symbols. A program that embeds Python by hand calls these functions. */
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

    const int sends = bursts * burst;
    double *const send = malloc(sizeof(double) * (size_t)sends);
    double *const first = malloc(sizeof(double) * (size_t)bursts);
    double *const gil = malloc(sizeof(double) * (size_t)bursts);
    dynamo_queue_t *const queue = dynamo_queue_create();
    dynamo_event_t event;
    memset(&event, 0, sizeof event);
    event.struct_size = sizeof event;
    for (int i = 0; i < bursts; ++i) {
        dynamo_request_t *requests[burst];
        for (int k = 0; k < burst; ++k) {
            requests[k] = completion("go");
            check(dynamo_request_set_queue(requests[k], queue, NULL) == DYNAMO_OK, "set_queue");
        }
        pause_2ms();
        for (int k = 0; k < burst; ++k) {
            const double begin = now();
            const int32_t status = dynamo_request_send(runtime, requests[k]);
            send[i * burst + k] = now() - begin;
            check(status == DYNAMO_OK, "send");
        }
        first[i] = send[i * burst];
        for (int left = burst; left > 0;) {
            check(dynamo_queue_next(queue, -1, &event) == DYNAMO_OK, "queue");
            dynamo_free(event.response);
            if (event.response == NULL) {
                check(event.status == DYNAMO_END, dynamo_request_error(event.request));
                dynamo_request_destroy(event.request);
                --left;
            }
        }
        pause_2ms();
        const double begin = now();
        state = ensure();
        release(state);
        gil[i] = now() - begin;
    }
    printf("{\"bursts\": %d, \"sends\": %d,\n ", bursts, sends);
    print_quantiles("send_us", send, sends);
    print_quantiles("first_us", first, bursts);
    print_quantiles("gil_us", gil, bursts);
    printf("\"ratio_p50\": %.1f, \"ratio_p99\": %.1f, \"ratio_first_p99\": %.1f}\n",
           quantile(gil, bursts, 0.5) / quantile(send, sends, 0.5),
           quantile(gil, bursts, 0.99) / quantile(send, sends, 0.99),
           quantile(gil, bursts, 0.99) / quantile(first, bursts, 0.99));
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
    return 0;
}
