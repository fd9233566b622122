/* Answers many questions in one thread that never blocks in the library (Linux):
 * epoll "configuration" "question"...
 *
 *     gcc -o epoll epoll.c $(dynamo-llm config --cflags --libs)
 *     ./epoll '{}' "What is a KV cache?" "What is prefill?" "What is decode?"
 *
  * Prints each piece of an answer with the number of its question. Ctrl-C, which also arrives through a file
 * descriptor, cancels all of them. */
#include <dynamo_llm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

typedef struct question_t {
    int number;
    dynamo_request_t *request;
} question_t;

static int fail(const char *message) {
    fprintf(stderr, "epoll: %s\n", message);
    return 1;
}

/* Prints the available responses. Returns DYNAMO_PENDING if more will follow, otherwise the terminal event. */
static int32_t receive(const question_t *question) {
    dynamo_response_t *response;
    int32_t status;
    while ((status = dynamo_request_next(question->request, 0, &response)) == DYNAMO_OK) {
        printf("%d: %s\n", question->number, dynamo_response_text(response, NULL));
        dynamo_free(response);
    }
    if (status == DYNAMO_ERROR_CANCELLED)
        printf("%d: (cancelled)\n", question->number);
    else if (status < 0)
        fprintf(stderr, "%d: %s\n", question->number, dynamo_request_error(question->request));
    fflush(stdout);
    return status;
}

/* Adds a descriptor to the loop. NULL as the question stands for Ctrl-C. */
static int watch(int loop, int descriptor, question_t *question) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = question};
    return epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fail("usage: epoll configuration question...");
    const int count = argc - 2;
    question_t *questions = calloc((size_t)count, sizeof *questions);
    /* Blocks SIGINT before the library starts threads, since threads inherit the signal mask. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    const int interrupts = signalfd(-1, &signals, SFD_CLOEXEC);
    if (questions == NULL || watch(loop, interrupts, NULL) != 0)
        return fail("cannot make the loop");
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    if (runtime == NULL)
        return fail(dynamo_last_error());

    for (int i = 0; i < count; ++i) {
        question_t *question = &questions[i];
        dynamo_chat_t *chat = dynamo_chat_create();
        if (dynamo_chat_add_message(chat, "user", argv[i + 2]) != DYNAMO_OK)
            return fail(dynamo_last_error());
        question->number = i + 1;
        question->request = dynamo_request_create_chat(chat);
        if (question->request == NULL || dynamo_request_send(runtime, question->request) < 0)
            return fail(dynamo_last_error());
        dynamo_chat_destroy(chat);
        if (watch(loop, dynamo_request_fd(question->request), question) != 0)
            return fail("too many descriptors");
    }

    int result = 0;
    for (int left = count; left > 0;) {
        struct epoll_event event;
        if (epoll_wait(loop, &event, 1, -1) != 1)
            continue;
        question_t *question = event.data.ptr;
        if (question == NULL) { /* cancel once: each request then ends */
            epoll_ctl(loop, EPOLL_CTL_DEL, interrupts, NULL);
            for (int i = 0; i < count; ++i)
                dynamo_request_cancel(questions[i].request); /* no effect after its end */
            continue;
        }
        const int32_t status = receive(question);
        if (status == DYNAMO_PENDING)
            continue;
        if (status < 0)
            result = status == DYNAMO_ERROR_CANCELLED ? 130 : 1;
        epoll_ctl(loop, EPOLL_CTL_DEL, dynamo_request_fd(question->request), NULL);
        --left;
    }
    for (int i = 0; i < count; ++i)
        dynamo_request_destroy(questions[i].request);
    dynamo_runtime_destroy(runtime);
    close(interrupts);
    close(loop);
    free(questions);
    return result;
}
