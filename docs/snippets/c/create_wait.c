/* gcc -o create_wait create_wait.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

static void on_event(void *user, const dynamo_creation_event_t *event) {
    if (event->status == DYNAMO_OK)
        *(dynamo_runtime_t **)user = event->runtime;
    if (event->error != NULL)
        fprintf(stderr, "%s\n", event->error);
}

int main(void) {
    /* begin */
    dynamo_runtime_t *runtime = NULL;
    dynamo_creation_t *creation = dynamo_runtime_create_async("{}", on_event, &runtime, NULL);
    if (creation == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    if (dynamo_creation_wait(creation, 60000) == DYNAMO_PENDING) { /* it took a minute */
        dynamo_creation_cancel(creation);
        dynamo_creation_wait(creation, -1); /* the callback uses a variable of this function */
    }
    dynamo_creation_destroy(creation);
    /* end */
    if (runtime == NULL)
        return 1;
    printf("ready\n");
    dynamo_runtime_destroy(runtime);
    return 0;
}
