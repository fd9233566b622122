/* gcc -o deadline deadline.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

int main(void) {
    /* An engine that never answers. */
    dynamo_runtime_t *runtime = dynamo_runtime_create(
        "{\"engine\": \"scripted\", \"options\": {\"script\": [{\"stall\": true}]}}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"?\"}");
    /* begin */
    dynamo_request_set_deadlines(request, 50, 2000); /* first token within 50 ms, all in 2 s */
    dynamo_request_send(runtime, request);
    if (dynamo_request_recv(request) == NULL)
        printf("%s: %s\n", dynamo_status_name(dynamo_last_status()), dynamo_last_error());
    /* end */
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}
