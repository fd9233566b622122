/* A custom engine in C answers 64 requests at once, without Python in the process.
 *
 *     gcc -o main main.c engine.c ../babble.c -pthread $(dynamo-llm config --cflags --libs)
 *     DYNAMO_LLM_PYTHON=none ./main
 *
  * Prints a few answers and the sizes of the engine's steps. One thread reads all answers: dynamo_request_notify()
 * reports which requests have something to receive. */
#include <dynamo_llm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"

enum { request_count = 64, longest_answer = 4096 };

typedef struct question_t {
    dynamo_request_t *request;
    struct question_t *next_ready;
    char answer[longest_answer];
    size_t length;
} question_t;

/* Requests that have something to receive. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    question_t *first;
} ready = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL};

static void on_ready(void *user) {
    question_t *question = user;
    pthread_mutex_lock(&ready.mutex);
    question->next_ready = ready.first;
    ready.first = question;
    pthread_cond_signal(&ready.changed);
    pthread_mutex_unlock(&ready.mutex);
}

static question_t *wait_for_ready(void) {
    pthread_mutex_lock(&ready.mutex);
    while (ready.first == NULL)
        pthread_cond_wait(&ready.changed, &ready.mutex);
    question_t *question = ready.first;
    ready.first = question->next_ready;
    pthread_mutex_unlock(&ready.mutex);
    return question;
}

static int fail(const char *message) {
    fprintf(stderr, "main: %s\n", message);
    return 1;
}

static int ask(dynamo_runtime_t *runtime, question_t *question, int number) {
    char body[128];
    snprintf(body, sizeof body, "{\"prompt\": \"Question %d\", \"max_tokens\": %d}", number,
             40 + number);
    question->request = dynamo_request_create(body);
    return question->request != NULL &&
           dynamo_request_send(runtime, question->request) == DYNAMO_OK &&
           dynamo_request_notify(question->request, on_ready, question) == DYNAMO_OK;
}

/* Receives the available responses. Returns DYNAMO_PENDING if more will follow, otherwise the terminal event. */
static int32_t receive(question_t *question) {
    dynamo_response_t *response;
    int32_t status;
    while ((status = dynamo_request_next(question->request, 0, &response)) == DYNAMO_OK) {
        size_t length;
        const char *text = dynamo_response_text(response, &length);
        if (question->length + length < sizeof question->answer) {
            memcpy(question->answer + question->length, text, length + 1);
            question->length += length;
        }
        dynamo_free(response);
    }
    return status;
}

int main(void) {
    static question_t questions[request_count];
    static engine_report report;
    if (dynamo_engine_register("babble", &engine_of_text, &report, NULL) != DYNAMO_OK)
        return fail(dynamo_last_error());
    dynamo_runtime_t *runtime =
        dynamo_runtime_create("{\"engine\": \"babble\", \"options\": {\"step_us\": 1000}}");
    if (runtime == NULL)
        return fail(dynamo_last_error());
    for (int i = 0; i < request_count; ++i)
        if (!ask(runtime, &questions[i], i + 1))
            return fail(dynamo_last_error());
    for (int left = request_count; left > 0;) {
        question_t *question = wait_for_ready();
        const int32_t status = receive(question);
        if (status == DYNAMO_PENDING) {
            if (dynamo_request_notify(question->request, on_ready, question) != DYNAMO_OK)
                return fail(dynamo_last_error());
            continue;
        }
        if (status != DYNAMO_END)
            return fail(dynamo_request_error(question->request));
        --left;
    }
    for (int i = 0; i < 3; ++i)
        printf("%d:%s\n", i + 1, questions[i].answer);
    for (int i = 0; i < request_count; ++i)
        dynamo_request_destroy(questions[i].request);
    if (dynamo_runtime_shutdown(runtime, -1) != DYNAMO_OK)
        return fail(dynamo_last_error());
    dynamo_runtime_destroy(runtime); /* stops the engine, which completes its report */
    unsigned long tokens = 0;
    size_t largest = 0;
    for (size_t size = 1; size <= most_running; ++size) {
        tokens += size * report.of_size[size];
        largest = report.of_size[size] > 0 ? size : largest;
    }
    printf("%d answers, %lu tokens in %lu steps, %zu in the largest\n", request_count, tokens,
           report.steps, largest);
    return 0;
}
