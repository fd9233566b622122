/* SPDX-License-Identifier: Apache-2.0 */
/* A program may end at any moment, in any way, without a crash or a hang. Each way runs in its own process. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "support.h"

static dynamo_runtime_t *runtime;
static dynamo_request_t *request;
static counter received;

static void start_streaming(void) {
    runtime = start("{'engine': 'echo', 'options': {'repeat': 1000000000}}");
    request = say("a");
}

static void *receive(void *unused) {
    (void)unused;
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        dynamo_free(response);
        add(&received, 1);
    }
    return NULL;
}

static void on_event(void *user, dynamo_request_t *which, dynamo_response_t *response,
                     int32_t status) {
    (void)user, (void)which, (void)status;
    dynamo_free(response);
    add(&received, 1);
}

static void *exit_from_a_thread(void *unused) {
    (void)unused;
    EVENTUALLY(get(&received) > 10);
    exit(7);
}

static int return_while_streaming(void) {
    start_streaming();
    sent(runtime, request);
    spawn(receive, NULL);
    EVENTUALLY(get(&received) > 10);
    return 7;
}

static int exit_while_streaming(void) {
    start_streaming();
    sent(runtime, request);
    spawn(exit_from_a_thread, NULL);
    receive(NULL);
    return 1;
}

static int return_with_callbacks(void) {
    start_streaming();
    CHECK_STATUS(dynamo_request_set_callback(request, on_event, NULL, NULL), DYNAMO_OK);
    sent(runtime, request);
    EVENTUALLY(get(&received) > 10);
    return 7;
}

static int return_while_waiting_for_the_end_of_time(void) {
    runtime = start_script("[{'stall': true}]");
    request = say("a");
    CHECK_STATUS(dynamo_request_set_deadlines(request, 1000000, INT64_MAX), DYNAMO_OK);
    sent(runtime, request);
    spawn(receive, NULL);
    return 7;
}

static void use_everything(void) {
    dynamo_runtime_t *late = start_echo();
    check_answer(sent(late, say("late")), "late", DYNAMO_END);
    CHECK(dynamo_request_create("{}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK(dynamo_last_error() != NULL && dynamo_last_error_json() != NULL);
    dynamo_runtime_destroy(late);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
}

static void clean_up(void) {
    use_everything();
    if (request != NULL) {
        dynamo_response_t *response = dynamo_request_recv(request);
        CHECK(response != NULL);
        dynamo_free(response);
        dynamo_request_destroy(request);
        CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
        dynamo_runtime_destroy(runtime);
    }
}

static int cleaned_up_by_atexit(void) {
    CHECK(atexit(clean_up) == 0); /* runs after any handler that the library registers */
    start_streaming();
    sent(runtime, request);
    CHECK(atexit(use_everything) == 0);
    return 7;
}

static int first_used_in_atexit(void) {
    CHECK(atexit(clean_up) == 0);
    return 7;
}

static pthread_key_t key;

static void destroy_at_thread_end(void *unused) {
    (void)unused;
    clean_up();
    /* Sets the key again, to run in later rounds too, after the destructor of the library's key. */
    static int rounds;
    request = NULL;
    if (++rounds < 3) {
        CHECK(pthread_setspecific(key, &key) == 0);
    }
}

static void *leave_it_to_the_thread(void *unused) {
    (void)unused;
    CHECK(pthread_setspecific(key, &key) == 0);
    start_streaming();
    sent(runtime, request);
    CHECK(dynamo_request_create(NULL) == NULL);
    return NULL;
}

static int destroyed_by_thread_specific_data(void) {
    CHECK(pthread_key_create(&key, destroy_at_thread_end) == 0);
    join(spawn(leave_it_to_the_thread, NULL));
    use_everything();
    return 7;
}

static int nothing_destroyed(void) {
    for (int i = 0; i < 20; ++i) {
        sent(start_echo(), say("a"));
    }
    return 7;
}

static const struct way {
    const char *name;
    int (*end)(void);
} ways[] = {
    {"return_while_streaming", return_while_streaming},
    {"exit_while_streaming", exit_while_streaming},
    {"return_with_callbacks", return_with_callbacks},
    {"return_while_waiting_for_the_end_of_time", return_while_waiting_for_the_end_of_time},
    {"cleaned_up_by_atexit", cleaned_up_by_atexit},
    {"first_used_in_atexit", first_used_in_atexit},
    {"destroyed_by_thread_specific_data", destroyed_by_thread_specific_data},
    {"nothing_destroyed", nothing_destroyed},
};

static void check_way(const char *program, const char *name) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(program, program, name, (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
        fprintf(stderr, "%s ended with wait status 0x%x\n", name, (unsigned)status);
        CHECK(!"a process ended in another way");
    }
}

int main(int count, char **arguments) {
    BEGIN();
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; ++i) {
        if (count > 1) {
            if (strcmp(arguments[1], ways[i].name) == 0) {
                return ways[i].end();
            }
        } else {
            fprintf(stderr, "  %s\n", ways[i].name);
            for (int round = 0; round < 5; ++round) {
                check_way("/proc/self/exe", ways[i].name);
            }
        }
    }
    return count > 1;
}
