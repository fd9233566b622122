/* gcc -o batch batch.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

enum { LINES = 10, WINDOW = 3 };

struct line {
    int number;
    char text[64];
};

/* begin */
/* Sends the request of a line. Returns whether it is in flight. */
static int send_line(dynamo_runtime_t *runtime, dynamo_queue_t *queue, struct line *line) {
    char body[128]; /* or a line of a file */
    snprintf(body, sizeof body, "{\"prompt\": \"line %d\", \"stream\": false}", line->number);
    dynamo_request_t *request = dynamo_request_create(body);
    if (request != NULL && dynamo_request_set_queue(request, queue, line) == DYNAMO_OK &&
        dynamo_request_send(runtime, request) == DYNAMO_OK)
        return 1;
    fprintf(stderr, "line %d: %s\n", line->number, dynamo_last_error());
    dynamo_request_destroy(request);
    return 0;
}

/* Answers the lines, at most WINDOW at the same time. Returns how many failed. */
static int answer(dynamo_runtime_t *runtime, dynamo_queue_t *queue, struct line *lines, int count) {
    int next = 0, in_flight = 0, failed = 0;
    dynamo_event_t event = {.struct_size = sizeof event};
    while (next < count || in_flight > 0) {
        if (next < count && in_flight < WINDOW) {
            if (send_line(runtime, queue, &lines[next++]))
                ++in_flight;
            else
                ++failed;
        } else if (dynamo_queue_next(queue, -1, &event) != DYNAMO_OK) {
            fprintf(stderr, "%s\n", dynamo_last_error());
            return failed + in_flight + count - next;
        } else if (event.response != NULL) { /* the whole answer of a line */
            struct line *line = event.user;
            snprintf(line->text, sizeof line->text, "%s",
                     dynamo_response_text(event.response, NULL));
            dynamo_free(event.response);
        } else { /* the terminal event */
            if (event.status != DYNAMO_END) {
                struct line *line = event.user;
                fprintf(stderr, "line %d: %s\n", line->number, dynamo_request_error(event.request));
                ++failed;
            }
            dynamo_request_destroy(event.request);
            --in_flight;
        }
    }
    return failed;
}
/* end */

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_queue_t *queue = dynamo_queue_create();
    struct line lines[LINES];
    for (int i = 0; i < LINES; ++i)
        lines[i] = (struct line){.number = i + 1, .text = ""};
    int failed = answer(runtime, queue, lines, LINES);
    for (int i = 0; i < LINES; ++i)
        printf("%d: %s\n", lines[i].number, lines[i].text);
    printf("%d failed\n", failed);
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
    return failed > 0;
}
