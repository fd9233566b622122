/* gcc -o error error.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

int main(void) {
    /* begin */
    if (dynamo_runtime_create("{\"engine\": \"echo\", \"optoins\": {}}") == NULL) {
        printf("%d = %s\n", (int)dynamo_last_status(), dynamo_status_name(dynamo_last_status()));
        puts(dynamo_last_error());
    }
    /* end */
    dynamo_runtime_t *runtime = dynamo_runtime_create(
        "{\"engine\": \"scripted\", \"options\": {\"script\": [{\"text\": \"a word\"}, {\"error\": "
        "{\"status\": \"OVERLOADED\", \"message\": \"7 requests wait already\"}}]}}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"?\"}");
    /* begin request */
    dynamo_request_send(runtime, request);
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL)
        dynamo_free(response); /* what had come before the error comes first */
    if (dynamo_request_status(request) != DYNAMO_END)
        puts(dynamo_request_error(request)); /* kept as long as the request */
    /* end request */
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}
