/* SPDX-License-Identifier: Apache-2.0 */
/* The library does not change process state of the program: signals, locale, umask, working directory, stdout. */
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

enum { signal_count = 65 };

typedef struct host {
    struct sigaction actions[signal_count];
    sigset_t mask;
    char locale[256];
    mode_t mask_of_files;
    char folder[4096];
    char environment[65536];
} host;

extern char **environ;

static host *look(void) {
    host *seen = calloc(1, sizeof *seen);
    CHECK(seen != NULL);
    for (int number = 1; number < signal_count; ++number) {
        sigaction(number, NULL,
                  &seen->actions[number]); /* some are reserved by libc and cannot be queried */
    }
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &seen->mask) == 0);
    snprintf(seen->locale, sizeof seen->locale, "%s", setlocale(LC_ALL, NULL));
    seen->mask_of_files = umask(0);
    umask(seen->mask_of_files);
    CHECK(getcwd(seen->folder, sizeof seen->folder) != NULL);
    size_t at = 0;
    for (char **one = environ; *one != NULL && at + strlen(*one) + 2 < sizeof seen->environment;
         ++one) {
        at += (size_t)sprintf(seen->environment + at, "%s\n", *one);
    }
    return seen;
}

static void check_same(const host *before, const host *after) {
    for (int number = 1; number < signal_count; ++number) {
        CHECK(before->actions[number].sa_handler == after->actions[number].sa_handler);
        CHECK(before->actions[number].sa_flags == after->actions[number].sa_flags);
        CHECK(sigismember(&before->mask, number) == sigismember(&after->mask, number));
    }
    CHECK_TEXT(after->locale, before->locale);
    CHECK(before->mask_of_files == after->mask_of_files);
    CHECK_TEXT(after->folder, before->folder);
    CHECK_TEXT(after->environment, before->environment);
}

static void handler(int number) {
    (void)number;
}

static pthread_t hosts_thread;
static counter handled_elsewhere;
static counter handled;

static void note_the_thread(int number) {
    (void)number;
    add(&handled, 1);
    if (!pthread_equal(pthread_self(), hosts_thread)) {
        add(&handled_elsewhere, 1);
    }
}

static void on_event(void *user, dynamo_request_t *request, dynamo_response_t *response,
                     int32_t status) {
    (void)request, (void)status;
    dynamo_free(response);
    if (response == NULL) {
        add(user, 1);
    }
}

static void use_everything(void) {
    dynamo_runtime_t *runtime = start_echo();
    check_answer(sent(runtime, say("a b c")), "a b c", DYNAMO_END);
    counter done = {0};
    dynamo_request_t *request = say("a");
    CHECK_STATUS(dynamo_request_set_deadlines(request, 100000, 100000), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_set_callback(request, on_event, &done, NULL), DYNAMO_OK);
    sent(runtime, request);
    EVENTUALLY(get(&done) == 1);
    dynamo_request_destroy(request);
    CHECK(dynamo_runtime_create("{\"engine\": \"no-such-engine\"}") == NULL); /* looks for Python */
    CHECK(dynamo_runtime_create("broken") == NULL);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
}

static void the_host_stays_as_it_was(void) {
    struct sigaction own;
    memset(&own, 0, sizeof own);
    own.sa_handler = handler;
    own.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGINT, &own, NULL) == 0 && sigaction(SIGCHLD, &own, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    umask(027);
    setlocale(LC_ALL, "C.UTF-8");
    host *before = look();
    use_everything();
    host *after = look();
    check_same(before, after);
    free(before);
    free(after);
}

static void signals_reach_the_hosts_threads_only(void) {
    hosts_thread = pthread_self();
    struct sigaction own;
    memset(&own, 0, sizeof own);
    own.sa_handler = note_the_thread;
    own.sa_flags = SA_RESTART;
    CHECK(sigaction(SIGUSR1, &own, NULL) == 0);
    dynamo_runtime_t *runtime =
        start("{'engine': 'echo', 'options': {'repeat': 1000000000}, 'stream': {'capacity': 64}}");
    dynamo_request_t *request = sent(runtime, say("a"));
    use_everything(); /* starts all threads of the library */
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &blocked, &before) == 0);
    for (int i = 0; i < 200; ++i) {
        CHECK(kill(getpid(), SIGUSR1) == 0);
        dynamo_free(dynamo_request_recv(request));
    }
    CHECK(get(&handled) == 0); /* it is pending for this thread */
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    EVENTUALLY(get(&handled) == 1);
    CHECK(get(&handled_elsewhere) == 0);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void nothing_is_written_to_standard_output(void) {
    char name[] = "/tmp/dynamo-llm-test-XXXXXX";
    const int file = mkstemp(name);
    CHECK(file >= 0 && unlink(name) == 0);
    fflush(stdout);
    const int real = dup(STDOUT_FILENO);
    CHECK(real >= 0 && dup2(file, STDOUT_FILENO) == STDOUT_FILENO);
    use_everything();
    fflush(stdout);
    struct stat found;
    CHECK(fstat(file, &found) == 0 && found.st_size == 0);
    CHECK(dup2(real, STDOUT_FILENO) == STDOUT_FILENO);
    close(real);
    close(file);
}

int main(void) {
    BEGIN();
    RUN(the_host_stays_as_it_was);
    RUN(signals_reach_the_hosts_threads_only);
    RUN(nothing_is_written_to_standard_output);
    return 0;
}
