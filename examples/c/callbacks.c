/* Answers to many questions through callbacks: callbacks "configuration" "question"...
 *
 *     gcc -o callbacks callbacks.c $(dynamo-llm config --cflags --libs)
 *     ./callbacks '{}' "What is a KV cache?" "What is prefill?" "What is decode?"
 *
 * Each piece of an answer is printed with the number of its question. The main thread sleeps until
 * all have ended, or until Ctrl-C, which cancels them. */
#include <dynamo_llm.h>
#include <signal.h>
#include <unistd.h>

#include "question.h"

/* What the main thread waits for: a byte for each end of an answer, and for each Ctrl-C. */
enum { ENDED = 'e', INTERRUPTED = 'i' };
static int events[2];

static void tell(char event) {
    if (write(events[1], &event, 1) != 1)
        _exit(1);
}

/* No function of the library may be called here: the main thread does it. */
static void interrupt(int number) {
    signal(number, SIG_DFL);
    tell(INTERRUPTED);
}

typedef struct question_t {
    int number;
    int32_t status;
    dynamo_request_t *request;
} question_t;

/* The library calls it from its own thread, one call at a time, so it may print as it likes.
 * Other callbacks wait until it returns. */
static void receive(void *user, dynamo_request_t *request, dynamo_response_t *response,
                    int32_t status) {
    question_t *question = user;
    if (response != NULL) {
        const char *reason = dynamo_response_finish_reason(response);
        printf("%d: %s\n", question->number, dynamo_response_text(response, NULL));
        if (reason != NULL)
            printf("%d: (%s)\n", question->number, reason);
        dynamo_free(response);
    } else if (status == DYNAMO_ERROR_CANCELLED) {
        printf("%d: (cancelled)\n", question->number);
    } else if (status != DYNAMO_END) {
        fprintf(stderr, "%d: %s\n", question->number, dynamo_request_error(request));
    }
    fflush(stdout);
    question->status = status;
}

/* The last call for a question; the library does not use the pointer again. */
static void release(void *user) {
    (void)user;
    tell(ENDED);
}

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fprintf(stderr, "usage: %s configuration question...\n", argv[0]), 2;
    const int count = argc - 2;
    question_t *questions = calloc((size_t)count, sizeof *questions);
    if (questions == NULL || pipe(events) != 0)
        return perror("cannot start"), 1;
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    if (runtime == NULL)
        return fail("cannot start");
    signal(SIGINT, interrupt);

    for (int i = 0; i < count; ++i) {
        question_t *question = &questions[i];
        question->number = i + 1;
        char *body = chat_body(argv[i + 2]);
        question->request = dynamo_request_create(body);
        free(body);
        if (question->request == NULL)
            return fail("bad request");
        if (dynamo_request_set_callback(question->request, receive, question, release) !=
                DYNAMO_OK ||
            dynamo_request_send(runtime, question->request) != DYNAMO_OK)
            return fail("cannot send");
    }

    for (int left = count; left > 0;) {
        char event;
        if (read(events[0], &event, 1) != 1)
            continue; /* Ctrl-C came: its byte is next. */
        if (event == ENDED)
            --left;
        for (int i = 0; event == INTERRUPTED && i < count; ++i)
            dynamo_request_cancel(questions[i].request);
    }

    int result = 0;
    for (int i = 0; i < count; ++i) {
        if (questions[i].status != DYNAMO_END)
            result = questions[i].status == DYNAMO_ERROR_CANCELLED ? 130 : 1;
        dynamo_request_destroy(questions[i].request);
    }
    dynamo_runtime_destroy(runtime);
    free(questions);
    return result;
}
