/* SPDX-License-Identifier: Apache-2.0 */
/* A program that runs Python ends without a crash, a hang, or output, however it ends. Each scenario runs in its own
 * process. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "embed.h"

static dynamo_request_t *streaming(dynamo_runtime_t *runtime) {
    dynamo_request_t *request = sent(runtime, say("A KV cache"));
    dynamo_free(first_of(request));
    return request;
}

static dynamo_runtime_t *demo(void) {
    return start("{'stream': {'capacity': 4}}");
}

/* ----------------------------------------------------------------- while requests are in flight */

static void main_returns_while_the_demo_model_streams(void) {
    dynamo_runtime_t *runtime = demo();
    for (int i = 0; i < 4; ++i) {
        streaming(runtime);
    }
}

static void main_returns_without_destroying_anything(void) {
    check_says(start_engine("echoes:Async", ""), "a", "a ");
    check_says(start_engine("echoes:Threaded", ""), "a", "a ");
    answer whole = receive_all(sent(start("{}"), say("A KV cache")));
    CHECK_STATUS(whole.status, DYNAMO_END);
    answer_free(&whole);
}

static void *call_exit(void *unused) {
    (void)unused;
    exit(0);
}

static void another_thread_exits(void) {
    dynamo_runtime_t *runtime = demo();
    streaming(runtime);
    streaming(start_engine("leaving:Endless", ""));
    pthread_detach(spawn(call_exit, NULL));
    for (;;) {
        pause();
    }
}

static void engines_stall(void) {
    streaming(start_engine("stalling:Sleeping", ""));
    streaming(start_engine("stalling:Async", ""));
    streaming(start_engine("leaving:EndlessThreaded", ""));
}

static void python_spins(void) {
    dynamo_runtime_t *runtime = start_engine("leaving:Spinning", "");
    check_says(runtime, "x", "spinning");
}

static void *start_and_never_come_back(void *unused) {
    (void)unused;
    char *config = engine_config("stalling:GatedStart", "");
    dynamo_runtime_create(config); /* may fail with CLOSED while the process exits */
    free(config);
    return NULL;
}

static void an_engine_starts(void) {
    dynamo_runtime_t *runtime = start_engine("echoes:Async", "");
    pthread_detach(spawn(start_and_never_come_back, NULL));
    check_says(runtime, "a", "a ");
}

static void exit_function_of_the_host(void) {
    dynamo_runtime_create("{}");
}

static void the_host_uses_the_library_in_an_exit_function(void) {
    atexit(exit_function_of_the_host);
    check_says(start_engine("echoes:Async", ""), "a", "a ");
    atexit(exit_function_of_the_host);
}

static dynamo_runtime_t *listing; /* its engine has a dynamic model list */
static pthread_key_t key;

/* Detects use after free: the blocks reuse the memory of thread-specific strings that were freed. */
static void list_models(void) {
    enum { blocks = 200 };
    char *memory[blocks];
    for (size_t i = 0; i < blocks; ++i) {
        memory[i] = malloc(100 + i * 4);
        memset(memory[i], 'A', 100 + i * 4);
    }
    for (int i = 0; i < 3; ++i) {
        dynamo_free(dynamo_runtime_models(listing)); /* the list, or NULL if Python has ended */
        CHECK(dynamo_last_status() == DYNAMO_OK || dynamo_last_error()[0] != '\0');
        dynamo_request_t *request = ask("{'model': 'another', 'prompt': 'x'}");
        const int32_t sent = dynamo_request_send(listing, request);
        CHECK(sent == DYNAMO_OK || dynamo_last_error()[0] != '\0');
        CHECK(dynamo_last_error_json() != NULL);
        dynamo_request_destroy(request);
    }
    for (size_t i = 0; i < blocks; ++i) {
        for (size_t k = 0; k < 100 + i * 4; ++k) {
            CHECK(memory[i][k] == 'A');
        }
        free(memory[i]);
    }
}

__attribute__((destructor)) static void at_the_very_end(void) {
    if (listing != NULL) {
        list_models();
    }
}

/* POSIX guarantees at least four rounds of these destructors. ThreadSanitizer needs the last one itself. */
#if defined(UNDER_THREAD_SANITIZER)
enum { most_rounds = 3 };
#else
enum { most_rounds = 8 };
#endif

static void list_models_at_thread_end(void *unused) {
    static int rounds;
    (void)unused;
    list_models();
    if (++rounds < most_rounds) {
        pthread_setspecific(key, &key);
    }
}

static void *use_in_a_thread(void *unused) {
    (void)unused;
    CHECK(pthread_setspecific(key, &key) == 0);
    list_models();
    return NULL;
}

static void destructors_use_the_library(void) {
    listing = start_engine("describing:Listing", "");
    CHECK(pthread_key_create(&key, list_models_at_thread_end) == 0);
    join(spawn(use_in_a_thread, NULL));
    char *const models = dynamo_runtime_models(listing);
    CHECK_CONTAINS(models, "a-model-with-a-long-name-8");
    dynamo_free(models);
    CHECK(atexit(list_models) == 0);
    list_models();
}

/* ----------------------------------------------------------------------------- Python's exit */

static void exit_functions_run(void) {
    dynamo_runtime_t *runtime = start_engine("leaving:ExitFunctions", "'options': {'fd': 1}");
    check_says(runtime, "x", "locks");
}

static void exit_functions_run_after_destroy(void) {
    dynamo_runtime_t *runtime = start_engine("leaving:ExitFunctions", "'options': {'fd': 1}");
    check_says(runtime, "x", "locks");
    finish(runtime);
}

/* ----------------------------------------------------------------------------------- fork */

static void expect_child(int (*run)(dynamo_runtime_t *), dynamo_runtime_t *runtime, int leave) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(60);
        const int code = run(runtime);
        if (leave &&
            !has_sanitizer("address")) { /* LeakSanitizer reports false leaks: no thread stacks */
            exit(code);
        }
        _exit(code);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int child_is_told(dynamo_runtime_t *runtime) {
    CHECK(dynamo_runtime_create("{}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_FORKED);
    CHECK(dynamo_request_create("{\"prompt\": \"x\"}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_FORKED);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, 0), DYNAMO_ERROR_FORKED);
    dynamo_runtime_destroy(runtime);
    return 0;
}

static int child_does_nothing(dynamo_runtime_t *runtime) {
    (void)runtime;
    return 0;
}

static void children_are_told(void) {
    dynamo_runtime_t *runtime = demo();
    dynamo_request_t *request = streaming(runtime);
    dynamo_runtime_t *busy = start_engine("leaving:Spinning", "");
    check_says(busy, "x", "spinning");
    for (int leave = 0; leave < 2; ++leave) {
        expect_child(child_is_told, runtime, leave);
        expect_child(child_does_nothing, runtime, leave);
    }
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    answer_free(&whole);
}

static const struct scenario {
    const char *name;
    void (*run)(void);
    const char *out;
} scenarios[] = {
    {"main_returns_while_the_demo_model_streams", main_returns_while_the_demo_model_streams, ""},
    {"main_returns_without_destroying_anything", main_returns_without_destroying_anything, ""},
    {"another_thread_exits", another_thread_exits, ""},
    {"engines_stall", engines_stall, ""},
    {"python_spins", python_spins, ""},
    {"an_engine_starts", an_engine_starts, ""},
    {"the_host_uses_the_library_in_an_exit_function", the_host_uses_the_library_in_an_exit_function,
     ""},
    {"destructors_use_the_library", destructors_use_the_library, ""},
    {"exit_functions_run", exit_functions_run, "engine stopped\nexit function ran\n"},
    {"exit_functions_run_after_destroy", exit_functions_run_after_destroy,
     "engine stopped\nexit function ran\n"},
    {"children_are_told", children_are_told, ""},
};

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; ++i) {
        if (argc > 1) {
            if (strcmp(argv[1], scenarios[i].name) == 0) {
                scenarios[i].run();
                return 0;
            }
            continue;
        }
        child process = run_self(scenarios[i].name, "");
        check_exited(scenarios[i].name, &process);
        CHECK_TEXT(process.out, scenarios[i].out);
        CHECK_TEXT(process.err, "");
        child_free(&process);
    }
    return argc > 1 ? 2 : 0;
}
