/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the engine "echo", which needs no model and no Python. */
#include <dynamo_llm.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"hello\"}");
    dynamo_response_t *response = NULL;
    if (dynamo_request_send(runtime, request) == DYNAMO_OK) {
        response = dynamo_request_recv(request);
    }
    const char *const text = dynamo_response_text(response, NULL);
    const int is_right = text != NULL && strcmp(text, "hello") == 0;
    if (!is_right) {
        fprintf(stderr, "%s\n", dynamo_last_error());
    }
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return is_right ? 0 : 1;
}
