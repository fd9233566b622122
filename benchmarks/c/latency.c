/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the cost of a request with one token.
 *
  *   latency CONFIG COUNT              one at a time, with the machine idle: time of the send, and of the round trip
 *   latency CONFIG COUNT IN_FLIGHT    with a constant number in flight: microseconds per request
 *
  * A round sends COUNT requests. */
#include <string.h>

#include "bench.h"

static void one_at_a_time(dynamo_runtime_t *runtime, int count) {
    double *const send = malloc(sizeof(double) * (size_t)count);
    double *const whole = malloc(sizeof(double) * (size_t)count);
    for (int i = 0; i < count; ++i) {
        dynamo_request_t *const request = completion("go");
        const double begin = now();
        check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
        send[i] = now() - begin;
        dynamo_response_t *response = NULL;
        int32_t status;
        while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
            dynamo_free(response);
        }
        whole[i] = now() - begin;
        check(status == DYNAMO_END, "the answer failed");
        dynamo_request_destroy(request);
    }
    sort_numbers(send, count);
    sort_numbers(whole, count);
    printf(
        "{\"send_p50_us\": %.3f, \"send_p99_us\": %.3f, \"round_trip_p50_us\": %.3f, "
        "\"round_trip_p99_us\": %.3f}\n",
        quantile(send, count, 0.5) * 1e6, quantile(send, count, 0.99) * 1e6,
        quantile(whole, count, 0.5) * 1e6, quantile(whole, count, 0.99) * 1e6);
    free(send);
    free(whole);
}

static void send_one(dynamo_runtime_t *runtime, dynamo_queue_t *queue) {
    dynamo_request_t *const request = completion("go");
    check(dynamo_request_set_queue(request, queue, NULL) == DYNAMO_OK, "set_queue");
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
}

static void many_at_a_time(dynamo_runtime_t *runtime, int count, int in_flight) {
    dynamo_queue_t *const queue = dynamo_queue_create();
    dynamo_event_t event;
    memset(&event, 0, sizeof event);
    event.struct_size = sizeof event;
    const double begin = now();
    int sent = 0;
    for (; sent < in_flight; ++sent) {
        send_one(runtime, queue);
    }
    for (int ended = 0; ended < count;) {
        check(dynamo_queue_next(queue, -1, &event) == DYNAMO_OK, "queue");
        dynamo_free(event.response);
        if (event.response == NULL) {
            check(event.status == DYNAMO_END, dynamo_request_error(event.request));
            dynamo_request_destroy(event.request);
            ++ended;
            if (sent < count) {
                send_one(runtime, queue);
                ++sent;
            }
        }
    }
    printf("{\"us\": %.4f}\n", (now() - begin) / count * 1e6);
    dynamo_queue_destroy(queue);
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: latency CONFIG COUNT [IN_FLIGHT]\n");
        return 2;
    }
    dynamo_runtime_t *const runtime = start(argv[1]);
    for (int go = ready(); go; go = another_round()) {
        if (argc == 3) {
            one_at_a_time(runtime, atoi(argv[2]));
        } else {
            many_at_a_time(runtime, atoi(argv[2]), atoi(argv[3]));
        }
    }
    dynamo_runtime_destroy(runtime);
    return 0;
}
