/* SPDX-License-Identifier: Apache-2.0 */
#include "embed.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* A child that hangs is ended after this time; long enough for slow machines. */
enum { patience_s = 100 };

char *engine_config(const char *engine, const char *more) {
    char text[4096];
    snprintf(text, sizeof text, "{'engine': '%s', 'python': {'path': ['%s']}%s%s}", engine,
             TEST_ENGINES, more[0] == '\0' ? "" : ", ", more);
    return json(text);
}

dynamo_runtime_t *start_engine(const char *engine, const char *more) {
    char *config = engine_config(engine, more);
    dynamo_runtime_t *runtime = dynamo_runtime_create(config);
    free(config);
    CHECK(runtime != NULL);
    return runtime;
}

void finish(dynamo_runtime_t *runtime) {
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(statistic(runtime, "in_flight") == 0);
    dynamo_runtime_destroy(runtime);
}

void check_says(dynamo_runtime_t *runtime, const char *prompt, const char *text) {
    check_answer(sent(runtime, say(prompt)), text, DYNAMO_END);
}

dynamo_response_t *first_of(dynamo_request_t *request) {
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK(response != NULL);
    return response;
}

int has_sanitizer(const char *name) {
    const char *all = getenv("DYNAMO_TEST_SANITIZE");
    return all != NULL && all[0] != '\0' && strstr(all, name) != NULL;
}

/* --------------------------------------------------------------------------- captured streams */

static int temporary_file(void) {
    char name[] = "/tmp/dynamo-test-XXXXXX";
    const int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK(unlink(name) == 0);
    return fd;
}

static char *content(int file) {
    const off_t size = lseek(file, 0, SEEK_END);
    CHECK(size >= 0);
    char *text = malloc((size_t)size + 1);
    CHECK(text != NULL);
    CHECK(pread(file, text, (size_t)size, 0) == size);
    text[size] = '\0';
    close(file);
    return text;
}

capture capture_begin(int fd) {
    fflush(NULL);
    capture captured = {fd, dup(fd), temporary_file()};
    CHECK(dup2(captured.file, fd) == fd);
    return captured;
}

char *capture_end(capture *captured) {
    fflush(NULL);
    CHECK(dup2(captured->saved, captured->fd) == captured->fd);
    close(captured->saved);
    return content(captured->file);
}

/* -------------------------------------------------------------------------------- child processes */

child run_self(const char *scenario, const char *argument) {
    fprintf(stderr, "  %s %s\n", scenario, argument);
    const int out = temporary_file();
    const int err = temporary_file();
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(out, 1);
        dup2(err, 2);
        close(out);
        close(err);
        alarm(patience_s);
        execl("/proc/self/exe", "test", scenario, argument, (char *)NULL);
        _exit(127);
    }
    child process;
    CHECK(waitpid(pid, &process.status, 0) == pid);
    process.out = content(out);
    process.err = content(err);
    return process;
}

void child_free(child *process) {
    free(process->out);
    free(process->err);
}

static void show(const char *scenario, const child *process, const char *wanted) {
    fprintf(stderr, "%s: %s %d, not %s\n--- stdout\n%.9000s\n--- stderr\n%.9000s\n", scenario,
            WIFSIGNALED(process->status) ? "ended by signal" : "exit code",
            WIFSIGNALED(process->status) ? WTERMSIG(process->status) : WEXITSTATUS(process->status),
            wanted, process->out, process->err);
    _exit(1);
}

void check_exited(const char *scenario, child *process) {
    if (!WIFEXITED(process->status) || WEXITSTATUS(process->status) != 0) {
        show(scenario, process, "exit code 0");
    }
}

void check_killed(const char *scenario, child *process, int signal_number) {
    if (!WIFSIGNALED(process->status) || WTERMSIG(process->status) != signal_number) {
        show(scenario, process, "the signal");
    }
}
