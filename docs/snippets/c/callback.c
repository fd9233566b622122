/* gcc -o callback callback.c $(dynamo-llm config --cflags --libs) -lpthread */
#include <dynamo_llm.h>
#include <semaphore.h>
#include <stdio.h>

/* begin */
static void receive(void *user, dynamo_request_t *request, dynamo_response_t *response,
                    int32_t status) {
    (void)user;
    if (response != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        dynamo_free(response);
    } else if (status == DYNAMO_END) {
        printf("\n%s\n", dynamo_status_name(status));
    } else {
        printf("\n%s\n", dynamo_request_error(request));
    }
}

/* Called once, after the last event: the library does not use the pointer again. */
static void release(void *user) {
    sem_post(user);
}
/* end */

int main(void) {
    sem_t done;
    sem_init(&done, 0, 0);
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"one two three\"}");
    /* begin send */
    if (dynamo_request_set_callback(request, receive, &done, release) != DYNAMO_OK ||
        dynamo_request_send(runtime, request) != DYNAMO_OK)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    sem_wait(&done);
    /* end send */
    int32_t status = dynamo_request_status(request);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return status == DYNAMO_END ? 0 : 1;
}
