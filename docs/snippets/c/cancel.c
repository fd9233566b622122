/* gcc -o cancel cancel.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

int main(void) {
    /* An answer of one word, and then nothing more. */
    dynamo_runtime_t *runtime = dynamo_runtime_create(
        "{\"engine\": \"scripted\","
        " \"options\": {\"script\": [{\"text\": \"wait\"}, {\"stall\": true}]}}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"?\"}");
    dynamo_request_send(runtime, request);
    /* begin */
    dynamo_response_t *response = dynamo_request_recv(request);
    printf("came: %s\n", dynamo_response_text(response, NULL));
    dynamo_free(response);

    dynamo_request_cancel(request); /* from any thread, at any time, also again */

    if (dynamo_request_recv(request) == NULL)
        printf("%s: %s\n", dynamo_status_name(dynamo_last_status()), dynamo_last_error());
    /* end */
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}
