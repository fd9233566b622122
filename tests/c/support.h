/* SPDX-License-Identifier: Apache-2.0 */
/* What the test programs have in common. JSON is written with ' for ". */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"
#include "dynamo_llm.h"

/* --- making things; failure ends the program --- */
char *json(const char *text); /* ' becomes "; free() it */
dynamo_runtime_t *start(const char *config);
dynamo_runtime_t *start_echo(void);
dynamo_runtime_t *start_script(const char *script);
dynamo_request_t *ask(const char *body);
dynamo_request_t *say(const char *prompt);        /* a completion, for "echo" */
dynamo_request_t *say_script(const char *script); /* for "scripted" without options.script */
dynamo_request_t *sent(dynamo_runtime_t *runtime, dynamo_request_t *request);

/* --- a whole answer --- */
typedef struct answer {
    char *text;
    size_t length;
    size_t token_count;
    size_t responses;
    size_t largest; /* most tokens in a response */
    char finish_reason[32];
    dynamo_usage_t usage;
    int has_usage;
    int32_t status; /* the terminal event */
} answer;

answer receive_all(dynamo_request_t *request);
void answer_free(answer *whole);
/* Receives everything and checks text and terminal event; destroys the request. */
void check_answer(dynamo_request_t *request, const char *text, int32_t status);
void add_response(answer *whole, dynamo_response_t *response); /* takes the response */

/* --- looking --- */
long long statistic(dynamo_runtime_t *runtime, const char *key);
int is_utf8(const char *text);
int readable(int fd);              /* now */
long count_of(const char *folder); /* entries in it */

/* --- threads, and counters that they share --- */
pthread_t spawn(void *(*function)(void *), void *argument);
void join(pthread_t thread);

typedef struct counter {
    long value;
} counter;
long add(counter *which, long by);
long get(counter *which);
void count_release(void *user); /* user is a counter */

/* --- what is known of the library's reliability --- */
/* A row of the table in docs/reliability.md: what the calling test did to the library, how often in this run, and what
   came of it. Written as a line of JSON to the end of the file that the environment variable
   DYNAMO_LLM_RELIABILITY names, if it names one. The texts have no quotes. */
#define RELIABILITY(what, how_often, happened) \
    write_reliability(__FILE__, __func__, what, how_often, happened)
void write_reliability(const char *file, const char *test, const char *what, long long how_often,
                       const char *happened);

/* 1 unless the environment variable DYNAMO_TEST_SCALE says less, such as 0.05. */
double scale(void);

#endif
