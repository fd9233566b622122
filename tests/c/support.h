/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the test programs. JSON is written with ' instead of ". */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "check.h"
#include "dynamo_llm.h"

/* --- create objects; a failure ends the program --- */
char *json(const char *text); /* replaces ' by "; free() the result */
dynamo_runtime_t *start(const char *config);
dynamo_runtime_t *start_echo(void);
dynamo_runtime_t *start_script(const char *script);
dynamo_request_t *ask(const char *body);
dynamo_request_t *say(const char *prompt);        /* a completion, for "echo" */
dynamo_request_t *say_script(const char *script); /* for "scripted" without options.script */
dynamo_request_t *sent(dynamo_runtime_t *runtime, dynamo_request_t *request);

/* --- a complete answer --- */
typedef struct answer {
    char *text;
    size_t length;
    size_t token_count;
    size_t responses;
    size_t largest; /* tokens of the largest response */
    char finish_reason[32];
    dynamo_usage_t usage;
    int has_usage;
    int32_t status; /* the terminal event */
} answer;

answer receive_all(dynamo_request_t *request);
void answer_free(answer *whole);
/* Receives everything, checks the text and the terminal event, and destroys the request. */
void check_answer(dynamo_request_t *request, const char *text, int32_t status);
void add_response(answer *whole, dynamo_response_t *response); /* frees the response */

/* --- queries --- */
long long statistic(dynamo_runtime_t *runtime, const char *key);
int is_utf8(const char *text);
int readable(int fd);              /* without waiting */
long count_of(const char *folder); /* number of entries */

/* --- threads, and the counters they share --- */
pthread_t spawn(void *(*function)(void *), void *argument);
void join(pthread_t thread);

typedef struct counter {
    long value;
} counter;
long add(counter *which, long by);
long get(counter *which);
void count_release(void *user); /* `user` is a counter */

/* --- reliability report --- */
/* Adds a row to the table in docs/reliability.md: what the test did to the library, how often in this run, and the
   result. Appends a line of JSON to the file named by the environment variable DYNAMO_LLM_RELIABILITY, if it is set.
   The texts must not contain quotes. */
#define RELIABILITY(what, how_often, happened) \
    write_reliability(__FILE__, __func__, what, how_often, happened)
void write_reliability(const char *file, const char *test, const char *what, long long how_often,
                       const char *happened);

/* Factor for the number of rounds: 1, or less if DYNAMO_TEST_SCALE is set, such as 0.05. */
double scale(void);

#endif
