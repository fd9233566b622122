/* SPDX-License-Identifier: Apache-2.0 */
/* ask CONFIG PROMPT: prints the answer; or, with exit code 3, status, message and JSON of the error. */
#include <dynamo_llm.h>
#include <stdio.h>
#include <string.h>

static int fail(int32_t status, const char *message, const char *json) {
    printf("%s\n%s\n%s\n", dynamo_status_name(status), message, json);
    return 3;
}

int main(int argc, char **argv) {
    char body[4096];
    if (argc != 3)
        return 2;
    snprintf(body, sizeof body, "{\"prompt\": \"%s\", \"stream\": false}", argv[2]);
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    if (runtime == NULL)
        return fail(dynamo_last_status(), dynamo_last_error(), dynamo_last_error_json());
    dynamo_request_t *request = dynamo_request_create(body);
    if (request == NULL || dynamo_request_send(runtime, request) != DYNAMO_OK)
        return 2;
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        dynamo_free(response);
    }
    const int32_t status = dynamo_request_status(request);
    if (status < 0)
        return fail(status, dynamo_request_error(request), dynamo_request_error_json(request));
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
