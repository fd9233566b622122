/* gcc -o create create.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* begin */
struct loading {
    int done[2]; /* a pipe: the callback tells the program's event loop */
    char phase[64];
    dynamo_runtime_t *runtime;
};

static void on_event(void *user, const dynamo_creation_event_t *event) {
    struct loading *me = user;
    if (event->status == DYNAMO_PENDING) { /* progress */
        if (strcmp(me->phase, event->progress->phase) != 0) {
            snprintf(me->phase, sizeof me->phase, "%s", event->progress->phase);
            printf("%s ...\n", me->phase);
        }
        return;
    }
    me->runtime = event->runtime; /* NULL after an error */
    if (event->error != NULL)
        fprintf(stderr, "%s\n", event->error);
    if (write(me->done[1], "x", 1) != 1)
        perror("write");
}
/* end */

int main(void) {
    struct loading me = {.phase = ""};
    if (pipe(me.done) != 0)
        return perror("pipe"), 1;
    /* begin create */
    dynamo_creation_t *creation = dynamo_runtime_create_async("{}", on_event, &me, NULL);
    if (creation == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    struct pollfd ready = {.fd = me.done[0], .events = POLLIN};
    while (poll(&ready, 1, 20) == 0) {
        /* Draw the window, serve other sockets; dynamo_creation_cancel() ends the loading. */
    }
    dynamo_creation_destroy(creation);
    /* end create */
    if (me.runtime == NULL)
        return 1;
    printf("ready\n");
    dynamo_runtime_destroy(me.runtime);
    close(me.done[0]);
    close(me.done[1]);
    return 0;
}
