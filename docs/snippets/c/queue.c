/* gcc -o queue queue.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    /* begin */
    dynamo_queue_t *queue = dynamo_queue_create();
    const char *names[] = {"first", "second"};
    const int count = 2;
    size_t bytes[] = {0, 0};
    for (int i = 0; i < count; ++i) {
        dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"a few words\"}");
        dynamo_request_set_queue(request, queue, &bytes[i]);
        dynamo_request_send(runtime, request);
    }
    dynamo_event_t event = {.struct_size = sizeof event};
    for (int left = count; left > 0 && dynamo_queue_next(queue, -1, &event) == DYNAMO_OK;) {
        if (event.response != NULL) { /* some of an answer */
            size_t length = 0;
            dynamo_response_text(event.response, &length);
            *(size_t *)event.user += length;
            dynamo_free(event.response);
        } else { /* the terminal event */
            if (event.status != DYNAMO_END)
                fprintf(stderr, "%s\n", dynamo_request_error(event.request));
            dynamo_request_destroy(event.request);
            --left;
        }
    }
    dynamo_queue_destroy(queue);
    /* end */
    for (int i = 0; i < count; ++i)
        printf("%s: %zu bytes\n", names[i], bytes[i]);
    dynamo_runtime_destroy(runtime);
    return 0;
}
