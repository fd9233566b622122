/* SPDX-License-Identifier: Apache-2.0 */
/* responses CONFIG BODY...: prints the JSON of each response, one a line. */
#include <dynamo_llm.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    for (int i = 2; i < argc; ++i) {
        dynamo_request_t *request = dynamo_request_create(argv[i]);
        dynamo_response_t *response;
        if (dynamo_request_send(runtime, request) != DYNAMO_OK)
            break;
        while ((response = dynamo_request_recv(request)) != NULL) {
            puts(dynamo_response_json(response));
            dynamo_free(response);
        }
        const int32_t status = dynamo_request_status(request);
        dynamo_request_destroy(request);
        if (status != DYNAMO_END)
            return 3;
    }
    if (dynamo_last_status() < 0)
        fprintf(stderr, "%s\n", dynamo_last_error());
    dynamo_runtime_destroy(runtime);
    return 0;
}
