/* SPDX-License-Identifier: Apache-2.0 */
/* A forked child gets DYNAMO_ERROR_FORKED once its parent has used the library; the parent continues. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "calls.h"
#include "support.h"

static dynamo_runtime_t *runtime;
static dynamo_request_t *request;
static dynamo_response_t *response;

static void check_forked(int32_t status) {
    CHECK_STATUS(status, DYNAMO_ERROR_FORKED);
    CHECK_CONTAINS(dynamo_last_error(), "forked");
    CHECK_CONTAINS(dynamo_last_error_json(), "DYNAMO_ERROR_FORKED");
}

static void child(void) {
    alarm(60); /* alarms are not inherited */
    void *const handles[] = {runtime, request, response, NULL};
    for (size_t h = 0; h < 4; ++h) {
        for (size_t i = 0; i < call_count; ++i) {
            if (handles[h] != NULL || !calls[i].null_is_fine) {
                check_forked(calls[i].call(handles[h]));
            }
        }
    }
    CHECK(dynamo_runtime_create("{\"engine\": \"echo\"}") == NULL);
    check_forked(dynamo_last_status());
    CHECK(dynamo_request_create("{\"prompt\": \"a\"}") == NULL);
    check_forked(dynamo_last_status());
    check_forked(dynamo_request_send(runtime, request));
    check_forked(dynamo_log_set_callback(DYNAMO_LOG_OFF, NULL, NULL, NULL));
    check_forked(dynamo_engine_register("x", NULL, NULL, NULL));
    check_forked(dynamo_engine_unregister("echo"));
    check_forked(DYNAMO_LLM_VERSION_CHECK());
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", "lost");
    /* Functions documented never to fail still work. */
    CHECK(dynamo_abi_version() == DYNAMO_LLM_ABI_VERSION);
    CHECK_TEXT(dynamo_status_name(DYNAMO_ERROR_FORKED), "DYNAMO_ERROR_FORKED");
    CHECK_CONTAINS(dynamo_config_schema(), "capacity");
    exit(42); /* runs atexit handlers and destructors */
}

static void check_child(void) {
    fflush(NULL);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        child();
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void while_nothing_runs(void) {
    runtime = start_echo();
    request = sent(runtime, say("a b"));
    const int fd = dynamo_request_fd(request);
    CHECK(fd >= 0);
    response = dynamo_request_recv(request);
    CHECK(response != NULL);
    EVENTUALLY(statistic(runtime, "in_flight") == 0);
    check_child();
    dynamo_free(response);
    dynamo_request_destroy(request);
    check_answer(sent(runtime, say("still here")), "still here", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a child is forked while nothing runs, and calls every function", 1,
                "FORKED from each; the parent went on");
}

static void while_a_stream_runs(void) {
    runtime =
        start("{'engine': 'echo', 'options': {'repeat': 200000}, 'stream': {'capacity': 16}}");
    request = sent(runtime, say("ab "));
    const int fd = dynamo_request_fd(request);
    CHECK(fd >= 0);
    answer whole;
    memset(&whole, 0, sizeof whole);
    for (int i = 0; i < 10; ++i) {
        response = dynamo_request_recv(request);
        CHECK(response != NULL);
        check_child();
        CHECK_TEXT(dynamo_request_error(request) == NULL ? "" : "error", "");
        add_response(&whole, response);
    }
    answer rest = receive_all(request);
    CHECK_STATUS(rest.status, DYNAMO_END);
    CHECK(whole.length + rest.length == 600000);
    answer_free(&whole);
    answer_free(&rest);
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a child is forked while a stream runs, and calls every function", 10,
                "FORKED from each; the parent's stream lost nothing");
}

int main(void) {
    BEGIN();
    RUN(while_nothing_runs);
    RUN(while_a_stream_runs);
    return 0;
}
