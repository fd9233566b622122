/* Answers many questions through callbacks: callbacks "configuration" "question"...
 *
 *     gcc -o callbacks callbacks.c $(dynamo-llm config --cflags --libs) -pthread
 *     ./callbacks '{}' "What is a KV cache?" "What is prefill?" "What is decode?"
 *     ./callbacks '{"engine": "vllm", "model": "FOLDER"}' "What is prefill?" "What is decode?"
 *
  * Prints each piece of an answer with the number of its question. The main thread sleeps until all answers have
 * ended, or until Ctrl-C, which cancels them. */
#include <dynamo_llm.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* Posted for each event that the main thread waits for: the end of an answer, or Ctrl-C. */
static sem_t events;
static volatile sig_atomic_t interrupted;

/* Signal handlers must not call the library, so the main thread cancels. */
static void interrupt(int number) {
    interrupted = 1;
    signal(number, SIG_DFL);
    sem_post(&events);
}

typedef struct question_t {
    int number;
    int32_t status;
    dynamo_request_t *request;
} question_t;

/* The library calls this function from its own thread, one call at a time, so printing needs no lock. Other callbacks
 * wait until it returns. */
static void receive(void *user, dynamo_request_t *request, dynamo_response_t *response,
                    int32_t status) {
    question_t *question = user;
    if (response != NULL) {
        printf("%d: %s\n", question->number, dynamo_response_text(response, NULL));
        dynamo_free(response);
    } else if (status == DYNAMO_ERROR_CANCELLED) {
        printf("%d: (cancelled)\n", question->number);
    } else if (status < 0) {
        fprintf(stderr, "%d: %s\n", question->number, dynamo_request_error(request));
    }
    fflush(stdout);
    question->status = status;
}

/* Called after the last callback for a question; the library does not use the pointer again. */
static void release(void *user) {
    (void)user;
    sem_post(&events);
}

static int fail(const char *message) {
    fprintf(stderr, "callbacks: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fail("usage: callbacks configuration question...");
    const int count = argc - 2;
    question_t *questions = calloc((size_t)count, sizeof *questions);
    if (questions == NULL || sem_init(&events, 0, 0) != 0)
        return fail("out of memory");
    dynamo_runtime_t *runtime = dynamo_runtime_create(argv[1]);
    if (runtime == NULL)
        return fail(dynamo_last_error());
    signal(SIGINT, interrupt);

    for (int i = 0; i < count; ++i) {
        question_t *question = &questions[i];
        dynamo_chat_t *chat = dynamo_chat_create();
        if (dynamo_chat_add_message(chat, "user", argv[i + 2]) != DYNAMO_OK)
            return fail(dynamo_last_error());
        question->number = i + 1;
        question->request = dynamo_request_create_chat(chat);
        dynamo_chat_destroy(chat);
        if (question->request == NULL ||
            dynamo_request_set_callback(question->request, receive, question, release) < 0 ||
            dynamo_request_send(runtime, question->request) < 0)
            return fail(dynamo_last_error());
    }

    for (int left = count; left > 0;) {
        while (sem_wait(&events) != 0) {
        } /* interrupted by a signal: wait again */
        if (!interrupted) {
            --left;
            continue;
        }
        interrupted = 0;
        for (int i = 0; i < count; ++i)
            dynamo_request_cancel(questions[i].request); /* no effect after its end */
    }

    int result = 0;
    for (int i = 0; i < count; ++i) {
        if (questions[i].status < 0)
            result = questions[i].status == DYNAMO_ERROR_CANCELLED ? 130 : 1;
        dynamo_request_destroy(questions[i].request);
    }
    dynamo_runtime_destroy(runtime);
    free(questions);
    return result;
}
