/* gcc -o first first.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

static int fail(void) {
    fprintf(stderr, "%s: %s\n", dynamo_status_name(dynamo_last_status()), dynamo_last_error());
    return 1;
}

int main(void) {
    /* begin */
    dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
    if (runtime == NULL)
        return fail();
    dynamo_chat_t *chat = dynamo_chat_create();
    dynamo_chat_add_message(chat, "user", "What is a KV cache?");
    dynamo_request_t *request = dynamo_request_create_chat(chat);
    if (dynamo_request_send(runtime, request) != DYNAMO_OK)
        return fail();
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        fflush(stdout);
        dynamo_free(response);
    }
    /* end */
    int result = dynamo_last_status() == DYNAMO_END ? 0 : fail();
    dynamo_request_destroy(request);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
    puts("");
    return result;
}
