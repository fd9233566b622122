/* SPDX-License-Identifier: Apache-2.0 */
/* Running Python does not change the state of the program's process: signals, locale, streams, working directory. Each
 * scenario runs in its own process. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "embed.h"

static volatile sig_atomic_t handled;
static void handle(int signal_number) {
    handled = signal_number;
}

/* Uses everything through which Python could change the process: both models, loggers, sockets, threads. */
static void use_python(void) {
    dynamo_runtime_t *runtime = start("{}");
    answer whole = receive_all(sent(runtime, say("A KV cache")));
    CHECK_STATUS(whole.status, DYNAMO_END);
    answer_free(&whole);
    dynamo_runtime_t *talker = start_engine("talking:BrokenInThread", "");
    check_says(talker, "x", "BrokenPipeError");
    dynamo_runtime_t *reporter = start_engine("reporting:Reporter", "");
    answer report =
        receive_all(sent(reporter, say("signal asyncio subprocess multiprocessing faulthandler")));
    CHECK_STATUS(report.status, DYNAMO_END);
    answer_free(&report);
}

static void interrupt_ends_the_program(void) {
    use_python();
    kill(getpid(), SIGINT);
    for (;;) {
        pause();
    }
}

static void own_handler_runs(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handle;
    CHECK(sigaction(SIGINT, &action, NULL) == 0);
    use_python();
    raise(SIGINT);
    CHECK(handled == SIGINT);
    dynamo_runtime_t *runtime = start_engine("echoes:Async", "");
    check_says(runtime, "a", "a ");
    finish(runtime);
}

static void ignored_interrupt_stays_ignored(void) {
    signal(SIGINT, SIG_IGN);
    use_python();
    raise(SIGINT);
    CHECK(signal(SIGINT, SIG_IGN) == SIG_IGN);
}

static void broken_pipe_ends_the_program(void) {
    use_python();
    int ends[2];
    CHECK(pipe(ends) == 0);
    close(ends[0]);
    CHECK(write(ends[1], "x", 1) == 1 || errno == EPIPE);
    CHECK(!"SIGPIPE was not delivered");
}

/* The library must not change process state that the program did not ask it to change. */
static void nothing_is_changed(void) {
    struct sigaction before[32], after;
    sigset_t mask_before, mask_after;
    struct stat out_before, out_after;
    char folder_before[4096], folder_after[4096];
    char locale_before[512];
    const mode_t umask_before = umask(027);
    umask(027);
    (void)umask_before;
    CHECK(setlocale(LC_ALL, "C") != NULL);
    snprintf(locale_before, sizeof locale_before, "%s", setlocale(LC_ALL, NULL));
    CHECK(getcwd(folder_before, sizeof folder_before) != NULL);
    CHECK(fstat(1, &out_before) == 0);
    const int flags_before = fcntl(1, F_GETFL);
    signal(SIGUSR1, handle);
    signal(SIGTERM, SIG_IGN);
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &some, NULL) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask_before) == 0);
    for (int i = 1; i < 32; ++i) {
        memset(&before[i], 0, sizeof before[i]);
        CHECK(sigaction(i, NULL, &before[i]) == 0);
    }

    use_python();

    for (int i = 1; i < 32; ++i) {
        memset(&after, 0, sizeof after);
        CHECK(sigaction(i, NULL, &after) == 0);
        if (after.sa_handler != before[i].sa_handler) {
            fprintf(stderr, "signal %d\n", i);
        }
        CHECK(after.sa_handler == before[i].sa_handler);
        if (after.sa_handler != SIG_DFL && after.sa_handler != SIG_IGN) {
            CHECK(after.sa_flags == before[i].sa_flags);
        }
    }
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask_after) == 0);
    for (int i = 1; i < 32; ++i) {
        CHECK(sigismember(&mask_before, i) == sigismember(&mask_after, i));
    }
    CHECK_TEXT(setlocale(LC_ALL, NULL), locale_before);
    CHECK(umask(0) == 027);
    CHECK(getcwd(folder_after, sizeof folder_after) != NULL);
    CHECK_TEXT(folder_after, folder_before);
    CHECK(fstat(1, &out_after) == 0);
    CHECK(out_before.st_ino == out_after.st_ino && out_after.st_size == 0);
    CHECK(fcntl(1, F_GETFL) == flags_before);
    printf("the host's own words\n");
}

static const struct scenario {
    const char *name;
    void (*run)(void);
    int ends_by; /* signal */
    const char *out;
} scenarios[] = {
    {"interrupt_ends_the_program", interrupt_ends_the_program, SIGINT, ""},
    {"own_handler_runs", own_handler_runs, 0, ""},
    {"ignored_interrupt_stays_ignored", ignored_interrupt_stays_ignored, 0, ""},
    {"broken_pipe_ends_the_program", broken_pipe_ends_the_program, SIGPIPE, ""},
    {"nothing_is_changed", nothing_is_changed, 0, "the host's own words\n"},
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; ++i) {
        if (argc > 1) {
            if (strcmp(argv[1], scenarios[i].name) == 0) {
                signal(SIGINT, SIG_DFL); /* may be ignored, such as under nohup */
                scenarios[i].run();
                return 0;
            }
            continue;
        }
        child process = run_self(scenarios[i].name, "");
        if (scenarios[i].ends_by == 0) {
            check_exited(scenarios[i].name, &process);
        } else {
            check_killed(scenarios[i].name, &process, scenarios[i].ends_by);
        }
        CHECK_TEXT(process.out, scenarios[i].out);
        CHECK_TEXT(process.err, "");
        child_free(&process);
    }
    return argc > 1 ? 2 : 0;
}
