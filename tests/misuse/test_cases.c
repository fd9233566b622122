/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts in which a program should not call the library, one test each. */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "../c/calls.h"
#include "../c/support.h"

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0) {
        CHECK(errno == EINTR);
    }
}

/* --- a callback that does not return --- */

typedef struct gate {
    sem_t entered;
    sem_t open;
    counter released;
} gate;

static void block(void *user, dynamo_request_t *request, dynamo_response_t *response,
                  int32_t status) {
    gate *const here = user;
    (void)request, (void)status;
    dynamo_free(response);
    sem_post(&here->entered);
    wait_for(&here->open);
    sem_post(&here->open); /* for the next callback */
}

static void released(void *user) {
    add(&((gate *)user)->released, 1);
}

static void a_callback_that_blocks(void) {
    dynamo_runtime_t *const runtime = start_echo();
    gate here = {.released = {0}};
    sem_init(&here.entered, 0, 0);
    sem_init(&here.open, 0, 0);
    dynamo_request_t *const blocking = say("a b");
    CHECK_STATUS(dynamo_request_set_callback(blocking, block, &here, released), DYNAMO_OK);
    sent(runtime, blocking);
    wait_for(&here.entered);
    /* Other requests continue; those with callbacks wait for their turn. */
    check_answer(sent(runtime, say("c d")), "c d", DYNAMO_END);
    dynamo_request_t *const behind = say("e");
    CHECK_STATUS(dynamo_request_set_callback(behind, block, &here, released), DYNAMO_OK);
    sent(runtime, behind);
    EVENTUALLY(dynamo_request_status(behind) == DYNAMO_END);
    dynamo_request_cancel(blocking);
    dynamo_request_destroy(blocking); /* returns, although its callback has not */
    CHECK(get(&here.released) == 0);
    sem_post(&here.open);
    dynamo_request_destroy(behind);
    EVENTUALLY(get(&here.released) == 2);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a callback does not return", 1,
                "other requests went on, its own could be destroyed; callbacks behind it waited");
}

/* --- a callback that calls everything --- */

static counter calls_from_callback;
static counter called_back;
static counter callbacks_behind;
static counter from_nested;

static void nested(void *user, dynamo_request_t *request, dynamo_response_t *response,
                   int32_t status) {
    (void)user, (void)request;
    dynamo_free(response);
    add(&from_nested, status == DYNAMO_END);
}

static void call_everything(void *user, dynamo_request_t *request, dynamo_response_t *response,
                            int32_t status) {
    dynamo_runtime_t *const runtime = user;
    if (response == NULL) {
        CHECK_STATUS(status, DYNAMO_END);
        dynamo_request_destroy(request);
        add(&called_back, 1);
        return;
    }
    /* Calls every function with a stale handle, ... */
    void *const stale = response;
    dynamo_free(response);
    for (size_t i = 0; i < call_count; ++i) {
        CHECK_STATUS(calls[i].call(stale), DYNAMO_ERROR_INVALID_HANDLE);
        add(&calls_from_callback, 1);
    }
    /* ... functions that wait for something this thread does not have to do, ... */
    check_answer(sent(runtime, say("a b")), "a b", DYNAMO_END);
    dynamo_runtime_t *const stalling = start_script("[{'stall': true}]");
    dynamo_request_t *const stalled = sent(stalling, say("x"));
    dynamo_response_t *none;
    CHECK_STATUS(dynamo_request_next(stalled, 20, &none), DYNAMO_PENDING);
    dynamo_request_destroy(stalled);
    dynamo_runtime_destroy(stalling);
    /* ... and functions that trigger other callbacks, which run only after this one. */
    dynamo_request_t *const later = say("later");
    CHECK_STATUS(dynamo_request_set_callback(later, nested, NULL, NULL), DYNAMO_OK);
    const long seen = get(&from_nested);
    sent(runtime, later);
    add(&callbacks_behind, 1);
    EVENTUALLY(dynamo_request_status(later) == DYNAMO_END);
    CHECK(get(&from_nested) == seen);
    dynamo_runtime_t *const other = start_echo();
    check_answer(sent(other, say("c")), "c", DYNAMO_END);
    CHECK_STATUS(dynamo_runtime_shutdown(other, -1), DYNAMO_OK);
    dynamo_runtime_destroy(other);
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_OFF, NULL, NULL, NULL), DYNAMO_OK);
    CHECK(dynamo_runtime_create("{") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_JSON);
}

static void a_callback_that_calls_everything(void) {
    dynamo_runtime_t *const runtime = start_echo();
    dynamo_request_t *const request = say("x");
    CHECK_STATUS(dynamo_request_set_callback(request, call_everything, runtime, NULL), DYNAMO_OK);
    sent(runtime, request);
    EVENTUALLY(get(&called_back) == 1 && get(&from_nested) == get(&callbacks_behind));
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a function is called from a callback", get(&calls_from_callback),
                "as anywhere else");
}

/* --- very many threads --- */

static void *one_request(void *runtime) {
    check_answer(sent(runtime, say("a b c")), "a b c", DYNAMO_END);
    return NULL;
}

static void a_thousand_threads(void) {
    enum { COUNT = 1000 };
    static pthread_t threads[COUNT];
    dynamo_runtime_t *const runtime = start_echo();
    const int count = (int)(COUNT * scale());
    for (int i = 0; i < count; ++i) {
        threads[i] = spawn(one_request, runtime);
    }
    for (int i = 0; i < count; ++i) {
        join(threads[i]);
    }
    CHECK(statistic(runtime, "ended") == count);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("threads that send and receive at once", count, "each had its own answer");
}

/* --- when a thread ends --- */

static pthread_key_t key;
static counter destructors;

static void last_words(void *runtime) {
    check_answer(sent(runtime, say("bye")), "bye", DYNAMO_END);
    CHECK(dynamo_runtime_create("{\"engin\": \"echo\"}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK(dynamo_last_error() != NULL); /* the thread's message is freed by now */
    add(&destructors, 1);
}

static void *with_a_destructor(void *runtime) {
    CHECK(pthread_setspecific(key, runtime) == 0);
    CHECK(dynamo_runtime_create("{") == NULL);
    CHECK_CONTAINS(dynamo_last_error(), "JSON");
    check_answer(sent(runtime, say("here")), "here", DYNAMO_END);
    return NULL;
}

static void a_destructor_of_a_thread(void) {
    dynamo_runtime_t *const runtime = start_echo();
    CHECK(pthread_key_create(&key, last_words) == 0);
    for (int i = 0; i < 10; ++i) {
        join(spawn(with_a_destructor, runtime));
    }
    CHECK(get(&destructors) == 10);
    pthread_key_delete(key);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a destructor of a thread uses the library", 10, "as anywhere else, errors too");
}

/* --- when the process ends --- */

static dynamo_runtime_t *left;

static void at_the_end(void) {
    check_answer(sent(left, say("bye")), "bye", DYNAMO_END);
    dynamo_runtime_destroy(left);
    _exit(7);
}

static void an_exit_handler(void) {
    const pid_t child = fork(); /* forks before the library is used */
    CHECK(child >= 0);
    if (child == 0) {
        atexit(at_the_end);
        left = start_echo();
        exit(1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    RELIABILITY("an exit handler uses the library", 1, "as anywhere else");
}

/* --- signals that come while a thread is inside the library --- */

static counter signals;

static void on_signal(int number) {
    (void)number;
    add(&signals, 1);
}

static void *receive(void *request) {
    check_answer(request, "x", DYNAMO_ERROR_CANCELLED);
    return NULL;
}

static void signals_while_it_receives(void) {
    struct sigaction action = {.sa_handler =
                                   on_signal}; /* no SA_RESTART: system calls fail with EINTR */
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    dynamo_runtime_t *const runtime = start_script("[{'text': 'x'}, {'stall': true}]");
    dynamo_request_t *const request = sent(runtime, say("a"));
    const pthread_t thread = spawn(receive, request);
    EVENTUALLY(statistic(runtime, "received") == 1);
    for (long i = 1; i <= 100; ++i) {
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        EVENTUALLY(get(&signals) == i);
        CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    }
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    join(thread);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a signal arrives in a thread that waits in dynamo_request_recv()", 100,
                "the wait went on, until it was cancelled");
}

int main(void) {
    BEGIN();
    RUN(an_exit_handler); /* first: it forks */
    RUN(a_callback_that_blocks);
    RUN(a_callback_that_calls_everything);
    RUN(a_thousand_threads);
    RUN(a_destructor_of_a_thread);
    RUN(signals_while_it_receives);
    return 0;
}
