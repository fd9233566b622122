/* gcc -o first first.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
    dynamo_request_t *request = dynamo_request_create(
        "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a KV cache?\"}]}");
    dynamo_request_send(runtime, request);
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        fflush(stdout);
        dynamo_free(response);
    }
    int32_t status = dynamo_last_status();
    if (status != DYNAMO_END)
        fprintf(stderr, "%s: %s\n", dynamo_status_name(status), dynamo_last_error());
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    puts("");
    return status == DYNAMO_END ? 0 : 1;
}
