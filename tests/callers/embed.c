/* SPDX-License-Identifier: Apache-2.0 */
/* embed CONFIG BODY: prints the answer to an embedding request, and its token count. */
#include <dynamo_llm.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    alarm(100);
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    dynamo_request_t *request = dynamo_request_create(argv[2]);
    if (runtime == NULL || dynamo_request_send(runtime, request) != DYNAMO_OK) {
        fprintf(stderr, "%s\n", dynamo_last_error());
        return 2;
    }
    dynamo_response_t *response = dynamo_request_recv(request);
    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    if (response == NULL || dynamo_response_usage(response, &usage) != DYNAMO_OK) {
        fprintf(stderr, "%s\n", dynamo_last_error());
        return 2;
    }
    printf("%s\n%u\n", dynamo_response_json(response), (unsigned)usage.prompt_tokens);
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
