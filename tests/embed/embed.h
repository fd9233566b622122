/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs that run Python have in common, beside support.h. */
#ifndef EMBED_H
#define EMBED_H

#include "support.h"

/* --- engines of tests/engines; `more` is more of the configuration, such as "'model': 'x'", or "" --- */
char *engine_config(const char *engine, const char *more); /* free() it */
dynamo_runtime_t *start_engine(const char *engine, const char *more);
/* Shuts down and checks that everything ended by itself. */
void finish(dynamo_runtime_t *runtime);
void check_says(dynamo_runtime_t *runtime, const char *prompt, const char *text);
dynamo_response_t *first_of(dynamo_request_t *request); /* checks that one comes */
int has_sanitizer(const char *name);                    /* "thread", "address"; "" for any */

/* --- files in place of stdout and stderr --- */
typedef struct capture {
    int fd;
    int saved;
    int file;
} capture;
capture capture_begin(int fd);
char *capture_end(capture *captured); /* what was written; free() it */

/* --- this program again, as a process of its own --- */
typedef struct child {
    int status; /* of waitpid() */
    char *out;
    char *err;
} child;
/* Runs it with two arguments; one that hangs ends by SIGALRM. */
child run_self(const char *story, const char *argument);
void child_free(child *process);
/* Checks that it ended with exit code 0 (or by a signal) and shows what it wrote if not. */
void check_exited(const char *story, child *process);
void check_killed(const char *story, child *process, int signal_number);

#endif
