/* gcc -o notify notify.c $(dynamo-llm config --cflags --libs) -lpthread */
#include <dynamo_llm.h>
#include <semaphore.h>
#include <stdio.h>

/* begin */
/* From the library's callback thread: only wake whoever receives. */
static void wake(void *user) {
    sem_post(user);
}

static int32_t receive(dynamo_request_t *request, sem_t *ready) {
    dynamo_response_t *response;
    int32_t status;
    while (1) {
        while ((status = dynamo_request_next(request, 0, &response)) == DYNAMO_OK) {
            fputs(dynamo_response_text(response, NULL), stdout);
            dynamo_free(response);
        }
        if (status != DYNAMO_PENDING)
            return status;
        if (dynamo_request_notify(request, wake, ready) != DYNAMO_OK) /* one call to wake() */
            return dynamo_last_status();
        sem_wait(ready);
    }
}
/* end */

int main(void) {
    sem_t ready;
    sem_init(&ready, 0, 0);
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"one two three\"}");
    dynamo_request_send(runtime, request);
    int32_t status = receive(request, &ready);
    printf("\n%s\n", dynamo_status_name(status));
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return status == DYNAMO_END ? 0 : 1;
}
