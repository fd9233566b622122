/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the test programs that run Python, in addition to support.h. */
#ifndef EMBED_H
#define EMBED_H

#include "support.h"

/* --- engines of tests/engines; `more` adds to the configuration, such as "'model': 'x'", or is "" --- */
char *engine_config(const char *engine, const char *more); /* free() it */
dynamo_runtime_t *start_engine(const char *engine, const char *more);
/* Shuts the runtime down and checks that every request ended by itself. */
void finish(dynamo_runtime_t *runtime);
void check_says(dynamo_runtime_t *runtime, const char *prompt, const char *text);
dynamo_response_t *first_of(dynamo_request_t *request); /* fails if there is none */
int has_sanitizer(const char *name);                    /* "thread", "address"; "" for any */

/* --- files in place of stdout and stderr --- */
typedef struct capture {
    int fd;
    int saved;
    int file;
} capture;
capture capture_begin(int fd);
char *capture_end(capture *captured); /* returns what was written; free() it */

/* --- run this program again, in a new process --- */
typedef struct child {
    int status; /* from waitpid() */
    char *out;
    char *err;
} child;
/* Runs the program with two arguments. SIGALRM ends it if it hangs. */
child run_self(const char *scenario, const char *argument);
void child_free(child *process);
/* Checks that the process ended with exit code 0 (or by a signal); otherwise shows its output. */
void check_exited(const char *scenario, child *process);
void check_killed(const char *scenario, child *process, int signal_number);

#endif
