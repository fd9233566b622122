/* SPDX-License-Identifier: Apache-2.0 */
/* Measures how fast the payloads of an endpoint in a cluster reach a reader in C.
 *
 *   items CONFIG COUNT
 *
  * A round requests COUNT payloads. Prints their number and the seconds. */
#include <string.h>

#include "bench.h"

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: items CONFIG COUNT\n");
        return 2;
    }
    char data[64];
    snprintf(data, sizeof data, "{\"count\": %s}", argv[2]);
    dynamo_runtime_t *const runtime = start(argv[1]);
    for (int go = ready(); go; go = another_round()) {
        dynamo_request_t *const request =
            dynamo_request_create_data(DYNAMO_DATA_JSON, data, strlen(data));
        check(request != NULL, "no request");
        const double begin = now();
        check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
        size_t items = 0;
        dynamo_response_t *response = NULL;
        int32_t status;
        while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
            items += dynamo_response_item_count(response);
            dynamo_free(response);
        }
        const double seconds = now() - begin;
        check(status == DYNAMO_END, dynamo_request_error(request));
        printf("{\"tokens\": %zu, \"seconds\": %.9f}\n", items, seconds);
        dynamo_request_destroy(request);
    }
    dynamo_runtime_destroy(runtime);
    return 0;
}
