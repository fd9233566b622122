/* gcc -o poll poll.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"one two three\"}");
    dynamo_request_send(runtime, request);
    /* begin */
    dynamo_response_t *response;
    int32_t status;
    do {
        status = dynamo_request_next(request, 100, &response);
        if (status == DYNAMO_OK) {
            fputs(dynamo_response_text(response, NULL), stdout);
            dynamo_free(response);
        } else if (status == DYNAMO_PENDING) {
            /* Nothing came for 100 ms: do something else for a while. */
        }
    } while (status == DYNAMO_OK || status == DYNAMO_PENDING);
    /* end */
    printf("\n%s\n", dynamo_status_name(status));
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return status == DYNAMO_END ? 0 : 1;
}
