/* SPDX-License-Identifier: Apache-2.0 */
/* The loop with which a C program receives an answer; cost_loop.cpp is the same in C++. */
#include "dynamo_llm.h"

void sink(const char *text, size_t length);

void loop_next(dynamo_request_t *request) {
    dynamo_response_t *response;
    while (dynamo_request_next(request, -1, &response) == DYNAMO_OK) {
        size_t length;
        const char *text = dynamo_response_text(response, &length);
        sink(text, length);
        dynamo_free(response);
    }
}

void loop_over(dynamo_request_t *request) {
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        size_t length;
        const char *text = dynamo_response_text(response, &length);
        sink(text, length);
        dynamo_free(response);
    }
}
