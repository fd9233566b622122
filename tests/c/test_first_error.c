/* SPDX-License-Identifier: Apache-2.0 */
/* A program that checks errors only once, at its end, still sees why its first call failed. */
#include <stdlib.h>
#include <string.h>

#include "dynamo_llm/cluster.h"
#include "support.h"

/* The program of README.md, which checks only at the end. */
static int32_t ask_without_looking(const char *config, const char *body, char *message,
                                   size_t size) {
    dynamo_runtime_t *runtime = dynamo_runtime_create(config);
    dynamo_request_t *request = dynamo_request_create(body);
    dynamo_request_send(runtime, request);
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        dynamo_free(response);
    }
    const int32_t status = dynamo_last_status();
    snprintf(message, size, "%s", dynamo_last_error());
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return status;
}

static void the_first_error_is_seen(void) {
    const char *const body = "{\"prompt\": \"a\"}";
    char message[8192];
    CHECK_STATUS(ask_without_looking("{\"engine\": \"echo\"}", body, message, sizeof message),
                 DYNAMO_END);
    /* DYNAMO_LLM_PYTHON is "none" in these tests. */
    CHECK_STATUS(ask_without_looking("{}", body, message, sizeof message),
                 DYNAMO_ERROR_PYTHON_UNAVAILABLE);
    CHECK_CONTAINS(message, "creating it failed earlier");
    CHECK_CONTAINS(message, "Looked at:");
    CHECK_STATUS(ask_without_looking("{\"engine\": 3}", body, message, sizeof message),
                 DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(message, "\"engine\" of the configuration must be a string or an object");
    CHECK_STATUS(ask_without_looking("{\"engine\": \"echo\"}", "{\"promt\": \"a\"}", message,
                                     sizeof message),
                 DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_CONTAINS(message, "the request is NULL, because creating it failed earlier");
    CHECK_CONTAINS(message, "did you mean \"prompt\"");
    CHECK_STATUS(
        ask_without_looking("{\"engine\": \"echo\"}", "{\"prompt\": \"a\", \"stop\": \"b\"}",
                            message, sizeof message),
        DYNAMO_ERROR_NOT_SUPPORTED); /* rejected by the engine */
    CHECK_CONTAINS(message, "dynamo_request_send() failed earlier");
    CHECK_CONTAINS(message, "\"stop\" of the request is not supported");
}

/* One call per type of handle, with NULL. */
static void call_runtime(void) {
    dynamo_runtime_shutdown(NULL, 0);
}
static void call_request(void) {
    dynamo_response_t *response;
    dynamo_request_next(NULL, 0, &response);
}
static void call_tokenizer(void) {
    dynamo_tokenizer_info(NULL);
}
static void call_detokenizer(void) {
    dynamo_detokenizer_finish(NULL, NULL);
}
static void call_worker(void) {
    dynamo_worker_info(NULL);
}
static void call_publisher(void) {
    dynamo_kv_publisher_cleared(NULL);
}
static void call_router(void) {
    dynamo_router_workers(NULL);
}

static void fail_runtime(void) {
    CHECK(dynamo_runtime_create("{\"engine\": 3}") == NULL);
}
static void fail_request(void) {
    CHECK(dynamo_request_create("[") == NULL);
}
static void fail_request_of_data(void) {
    CHECK(dynamo_request_create_data(7, "a", 1) == NULL);
}
static void fail_tokenizer(void) {
    CHECK(dynamo_tokenizer_create("{\"python\": 3}") == NULL);
}
static int not_a_handle;
static void fail_detokenizer(void) {
    CHECK(dynamo_detokenizer_create((dynamo_tokenizer_t *)&not_a_handle, 1) == NULL);
}
static void fail_worker(void) {
    CHECK(dynamo_worker_create("[]") == NULL);
}
static void fail_publisher(void) {
    CHECK(dynamo_kv_publisher_create("{\"python\": {\"x\": 1}}") == NULL);
}
static void fail_router(void) {
    CHECK(dynamo_router_create("{}x") == NULL);
}

static const struct kind {
    const char *name;
    void (*call)(void);
    void (*fail)(void);
    int32_t status;
} kinds[] = {
    {"runtime", call_runtime, fail_runtime, DYNAMO_ERROR_INVALID_CONFIG},
    {"request", call_request, fail_request, DYNAMO_ERROR_INVALID_JSON},
    {"request", call_request, fail_request_of_data, DYNAMO_ERROR_INVALID_ARGUMENT},
    {"tokenizer", call_tokenizer, fail_tokenizer, DYNAMO_ERROR_INVALID_CONFIG},
    {"detokenizer", call_detokenizer, fail_detokenizer, DYNAMO_ERROR_INVALID_HANDLE},
    {"worker", call_worker, fail_worker, DYNAMO_ERROR_INVALID_CONFIG},
    {"KV publisher", call_publisher, fail_publisher, DYNAMO_ERROR_INVALID_CONFIG},
    {"router", call_router, fail_router, DYNAMO_ERROR_INVALID_JSON},
};
enum { kind_count = sizeof kinds / sizeof kinds[0] };

static void check_null(const struct kind *kind, int32_t status, const char *part) {
    kind->call();
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), kind->name);
    CHECK_CONTAINS(dynamo_last_error(), part);
}

static void *without_a_failure(void *unused) {
    for (int i = 0; i < kind_count; ++i) {
        check_null(&kinds[i], DYNAMO_ERROR_INVALID_HANDLE, "it is NULL");
    }
    return unused;
}

static void each_kind_remembers(void) {
    join(spawn(without_a_failure, NULL));
    for (int i = 0; i < kind_count; ++i) {
        char first[4096];
        kinds[i].fail();
        CHECK_STATUS(dynamo_last_status(), kinds[i].status);
        snprintf(first, sizeof first, "%s", dynamo_last_error());
        for (int again = 0; again < 2; ++again) {
            check_null(&kinds[i], kinds[i].status, first);
            CHECK_CONTAINS(dynamo_last_error(), "failed earlier");
        }
        for (int other = i + 1; other < kind_count; ++other) {
            if (strcmp(kinds[other].name, kinds[i].name) != 0) {
                check_null(&kinds[other], DYNAMO_ERROR_INVALID_HANDLE, "it is NULL");
            }
        }
        join(spawn(without_a_failure, NULL)); /* errors are per thread */
    }
    /* A successful create ends the repetition. */
    dynamo_runtime_destroy(start_echo());
    check_null(&kinds[0], DYNAMO_ERROR_INVALID_HANDLE, "it is NULL");
    dynamo_request_destroy(say("a"));
    check_null(&kinds[1], DYNAMO_ERROR_INVALID_HANDLE, "it is NULL");
    check_null(&kinds[7], kinds[7].status, "failed earlier");
    RELIABILITY("a program passes on the NULL that a failed create returned", kind_count,
                "the create function's error");
}

static void a_later_send_succeeds(void) {
    dynamo_request_t *request = say("a");
    dynamo_response_t *response;
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "was not sent");
    CHECK_STATUS(dynamo_request_send(NULL, request), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_CONTAINS(dynamo_last_error(), "dynamo_request_send() failed earlier");
    dynamo_runtime_t *runtime = start_echo();
    check_answer(sent(runtime, request), "a", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    RUN(the_first_error_is_seen);
    RUN(each_kind_remembers);
    RUN(a_later_send_succeeds);
    return 0;
}
