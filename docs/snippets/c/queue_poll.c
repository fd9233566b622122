/* gcc -o queue_poll queue_poll.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    int commands[2]; /* stands for a socket of the program */
    if (pipe(commands) != 0 || write(commands[1], "?", 1) != 1)
        return perror("pipe"), 1;
    /* begin */
    dynamo_queue_t *queue = dynamo_queue_create();
    int left = 0, answered = 0, asked = 0;
    for (int i = 0; i < 3; ++i, ++left) {
        dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"a few words\"}");
        dynamo_request_set_queue(request, queue, NULL);
        dynamo_request_send(runtime, request);
    }
    struct pollfd ready[] = {
        {.fd = dynamo_queue_fd(queue), .events = POLLIN},
        {.fd = commands[0], .events = POLLIN},
    };
    while ((left > 0 || asked == 0) && poll(ready, 2, -1) > 0) {
        if (ready[1].revents != 0) { /* the program's own descriptor */
            char command;
            asked += read(commands[0], &command, 1) == 1;
        }
        dynamo_event_t event = {.struct_size = sizeof event};
        while (dynamo_queue_next(queue, 0, &event) == DYNAMO_OK) {
            if (event.response != NULL) { /* some of an answer */
                dynamo_free(event.response);
                continue;
            }
            answered += event.status == DYNAMO_END;
            dynamo_request_destroy(event.request);
            --left;
        }
    }
    dynamo_queue_destroy(queue);
    /* end */
    printf("%d answers, %d command\n", answered, asked);
    close(commands[0]);
    close(commands[1]);
    dynamo_runtime_destroy(runtime);
    return 0;
}
