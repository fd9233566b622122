/* SPDX-License-Identifier: Apache-2.0 */
/* Starts, requests one token, and exits. The run time of the whole process is measured.
 *
 *   first_token CONFIG */
#include "bench.h"

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: first_token CONFIG\n");
        return 2;
    }
    dynamo_runtime_t *const runtime = start(argv[1]);
    dynamo_request_t *const request = completion("1");
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    dynamo_response_t *const response = dynamo_request_recv(request);
    check(response != NULL, "no token");
    printf("token\n");
    fflush(stdout);
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
