/* SPDX-License-Identifier: Apache-2.0 */
/* Runtimes of engines in Python that are created without waiting, in a program that does not run Python itself. */
#include <stdlib.h>
#include <string.h>

#include "embed.h"

typedef struct seen {
    pthread_mutex_t mutex;
    char phases[1024]; /* each once, in order */
    char last[64];
    double fraction;
    counter ends, releases;
    int32_t status;
    dynamo_runtime_t *runtime;
    char *error;
} seen;

static void on_event(void *user, const dynamo_creation_event_t *event) {
    seen *me = user;
    pthread_mutex_lock(&me->mutex);
    if (event->status == DYNAMO_PENDING) {
        if (strcmp(me->last, event->progress->phase) != 0) {
            snprintf(me->last, sizeof me->last, "%s", event->progress->phase);
            const size_t length = strlen(me->phases);
            snprintf(me->phases + length, sizeof me->phases - length, "%s ", me->last);
        }
        if (strcmp(me->last, "download") == 0) {
            me->fraction = event->progress->fraction;
        }
    } else {
        me->status = event->status;
        me->runtime = event->runtime;
        me->error = event->error == NULL ? NULL : strdup(event->error);
        add(&me->ends, 1);
    }
    pthread_mutex_unlock(&me->mutex);
}

static void on_release(void *user) {
    add(&((seen *)user)->releases, 1);
}

static dynamo_creation_t *create(const char *engine, const char *more, seen *me) {
    memset(me, 0, sizeof *me);
    CHECK(pthread_mutex_init(&me->mutex, NULL) == 0);
    char *config = engine_config(engine, more);
    dynamo_creation_t *creation = dynamo_runtime_create_async(config, on_event, me, on_release);
    CHECK(creation != NULL);
    free(config);
    return creation;
}

static int has_reached(seen *me, const char *phase) {
    pthread_mutex_lock(&me->mutex);
    const int is_there = strcmp(me->last, phase) == 0;
    pthread_mutex_unlock(&me->mutex);
    return is_there;
}

/* The first call of the process: nobody waits for the start of Python. */
static void python_starts_meanwhile(void) {
    seen me;
    dynamo_creation_t *creation = create("loading:Asynchronous", "", &me);
    CHECK(get(&me.ends) == 0);
    EVENTUALLY(get(&me.releases) == 1);
    CHECK_STATUS(me.status, DYNAMO_OK);
    CHECK_TEXT(me.phases, "engine download weights warmup ");
    CHECK(me.fraction == 0.25);
    check_says(me.runtime, "x", "loaded");
    dynamo_creation_destroy(creation);
    finish(me.runtime);
}

static void the_demo_model_reports_its_phases(void) {
    seen me;
    memset(&me, 0, sizeof me);
    CHECK(pthread_mutex_init(&me.mutex, NULL) == 0);
    dynamo_creation_t *creation = dynamo_runtime_create_async("{}", on_event, &me, on_release);
    EVENTUALLY(get(&me.releases) == 1);
    CHECK_STATUS(me.status, DYNAMO_OK);
    CHECK_TEXT(me.phases, "engine tokenizer weights warmup ");
    dynamo_creation_destroy(creation);
    finish(me.runtime);
}

static void errors_have_the_traceback(void) {
    seen me;
    dynamo_creation_t *creation =
        create("loading:Wrong", "'options': {'report': {'phase': ''}}", &me);
    EVENTUALLY(get(&me.releases) == 1);
    CHECK_STATUS(me.status, DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_CONTAINS(me.error, "ValueError: phase must be a text of 1 to 256 bytes");
    free(me.error);
    dynamo_creation_destroy(creation);
}

static void a_cancel_reaches_the_engine(const char *engine) {
    seen me;
    dynamo_creation_t *creation = create(engine, "'options': {'seconds': 1000}", &me);
    EVENTUALLY(has_reached(&me, "weights"));
    CHECK_STATUS(dynamo_creation_cancel(creation), DYNAMO_OK);
    EVENTUALLY(get(&me.releases) == 1);
    CHECK_STATUS(me.status, DYNAMO_ERROR_CANCELLED);
    free(me.error);
    dynamo_creation_destroy(creation);
}

static void cancelled_starts(void) {
    a_cancel_reaches_the_engine("loading:Asynchronous");
    a_cancel_reaches_the_engine("loading:Threaded");
}

/* ------------------------------------------------------------------------- each in its own process */

/* At once: somewhere in the search for Python, its start, and its first imports. */
static void main_returns_while_python_starts(const char *microseconds) {
    static seen me;
    create("loading:Asynchronous", "'options': {'seconds': 1000}", &me);
    usleep((useconds_t)atol(microseconds));
}

static void main_returns_while_an_engine_starts(const char *engine) {
    static seen me;
    create(engine, "'options': {'seconds': 1000}", &me);
    EVENTUALLY(has_reached(&me, "weights"));
}

static void exits_while_it_starts(void) {
    const char *const moments[] = {"0", "20000", "100000", "300000"};
    for (int i = 0; i < 4; ++i) {
        child process = run_self("python", moments[i]);
        check_exited(moments[i], &process);
        CHECK_TEXT(process.err, "");
        child_free(&process);
    }
    const char *const engines[] = {"loading:Asynchronous", "loading:Threaded"};
    for (int i = 0; i < 2; ++i) {
        child process = run_self("engine", engines[i]);
        check_exited(engines[i], &process);
        child_free(&process);
    }
}

int main(int count, char **arguments) {
    BEGIN();
    if (count == 3) {
        const int is_python = strcmp(arguments[1], "python") == 0;
        (is_python ? main_returns_while_python_starts
                   : main_returns_while_an_engine_starts)(arguments[2]);
        return 0;
    }
    RUN(python_starts_meanwhile);
    RUN(the_demo_model_reports_its_phases);
    RUN(errors_have_the_traceback);
    RUN(cancelled_starts);
    RUN(exits_while_it_starts);
    return 0;
}
