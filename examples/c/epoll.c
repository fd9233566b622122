/* Answers to many questions in one thread that never blocks in the library (Linux):
 * epoll "configuration" "question"...
 *
 *     gcc -o epoll epoll.c $(dynamo-llm config --cflags --libs)
 *     ./epoll '{}' "What is a KV cache?" "What is prefill?" "What is decode?"
 *
 * Each piece of an answer is printed with the number of its question. Ctrl-C, which is a descriptor
 * among the others here, cancels them all. */
#include <dynamo_llm.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "question.h"

typedef struct question_t {
    int number;
    dynamo_request_t *request;
} question_t;

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
    return 1;
}

/* Prints what has come. DYNAMO_PENDING: more will follow, else how the answer ended. */
static int32_t receive(const question_t *question) {
    dynamo_response_t *response;
    int32_t status;
    while ((status = dynamo_request_next(question->request, 0, &response)) == DYNAMO_OK) {
        const char *reason = dynamo_response_finish_reason(response);
        printf("%d: %s\n", question->number, dynamo_response_text(response, NULL));
        if (reason != NULL)
            printf("%d: (%s)\n", question->number, reason);
        dynamo_free(response);
    }
    if (status == DYNAMO_ERROR_CANCELLED)
        printf("%d: (cancelled)\n", question->number);
    else if (status < 0)
        fprintf(stderr, "%d: %s\n", question->number, dynamo_request_error(question->request));
    fflush(stdout);
    return status;
}

/* Adds a descriptor to the loop. A NULL question is Ctrl-C. */
static int watch(int loop, int descriptor, question_t *question) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = question};
    return epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fprintf(stderr, "usage: %s configuration question...\n", argv[0]), 2;
    const int count = argc - 2;
    question_t *questions = calloc((size_t)count, sizeof *questions);
    /* Blocked before the library starts threads, which inherit that. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    const int interrupts = signalfd(-1, &signals, SFD_CLOEXEC);
    if (questions == NULL || loop < 0 || interrupts < 0 || watch(loop, interrupts, NULL) != 0)
        return perror("cannot start"), 1;
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    if (runtime == NULL)
        return fail("cannot start");

    for (int i = 0; i < count; ++i) {
        char *body = chat_body(argv[i + 2]);
        questions[i].number = i + 1;
        questions[i].request = dynamo_request_create(body);
        free(body);
        if (questions[i].request == NULL)
            return fail("bad request");
        if (dynamo_request_send(runtime, questions[i].request) != DYNAMO_OK)
            return fail("cannot send");
        const int descriptor = dynamo_request_fd(questions[i].request);
        if (descriptor < 0)
            return fail("cannot wait");
        if (watch(loop, descriptor, &questions[i]) != 0)
            return perror("cannot wait"), 1;
    }

    int result = 0;
    for (int left = count; left > 0;) {
        struct epoll_event event;
        if (epoll_wait(loop, &event, 1, -1) != 1)
            continue;
        question_t *question = event.data.ptr;
        if (question == NULL) {
            struct signalfd_siginfo info;
            if (read(interrupts, &info, sizeof info) == sizeof info)
                for (int i = 0; i < count; ++i)
                    dynamo_request_cancel(questions[i].request); /* NULL after its end: no harm */
            continue;
        }
        const int32_t status = receive(question);
        if (status == DYNAMO_PENDING)
            continue;
        if (status != DYNAMO_END)
            result = status == DYNAMO_ERROR_CANCELLED ? 130 : 1;
        epoll_ctl(loop, EPOLL_CTL_DEL, dynamo_request_fd(question->request), NULL);
        dynamo_request_destroy(question->request);
        question->request = NULL;
        --left;
    }
    dynamo_runtime_destroy(runtime);
    close(interrupts);
    close(loop);
    free(questions);
    return result;
}
