/* SPDX-License-Identifier: Apache-2.0 */
/* An invalid handle causes an error, never a crash; children may outlive their parents. */
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "support.h"

static int live_cancel_count;

/* An engine that only keeps its stream, so that a live handle of each type exists. */
static dynamo_stream_t *kept;
static int32_t keeper_start(void *user, const char *config, void **instance) {
    (void)user, (void)config;
    *instance = NULL;
    return DYNAMO_OK;
}
static int32_t keeper_generate(void *instance, dynamo_stream_t *stream, const char *id,
                               const char *body) {
    (void)instance, (void)id, (void)body;
    kept = stream;
    return DYNAMO_OK;
}
static void keeper_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
    ++live_cancel_count;
}
static void keeper_stop(void *instance) {
    (void)instance;
}
static const dynamo_engine_t keeper = {
    .struct_size = sizeof keeper,
    .start = keeper_start,
    .generate = keeper_generate,
    .cancel = keeper_cancel,
    .on_writable = NULL,
    .stop = keeper_stop,
};

static long rejected; /* number of calls */

static void check_rejected(void *handle, int kind) {
    for (size_t i = 0; i < call_count; ++i) {
        if ((int)calls[i].kind != kind) {
            fprintf(stderr, "    %s(%p)\n", calls[i].name, handle);
            CHECK_STATUS(calls[i].call(handle), DYNAMO_ERROR_INVALID_HANDLE);
            ++rejected;
            CHECK(strlen(dynamo_last_error()) > 0);
        }
    }
}

static void sent_twice(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = sent(runtime, say("a"));
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_INVALID_STATE);
    answer whole = receive_all(request);
    CHECK_TEXT(whole.text, "a");
    answer_free(&whole);
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_set_deadlines(request, 1, 1), DYNAMO_ERROR_INVALID_STATE);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a request is sent twice", 2, "INVALID_STATE, and its answer came once");
}

static void received_before_sent(void) {
    dynamo_request_t *request = say("a");
    dynamo_response_t *response = (dynamo_response_t *)request;
    CHECK(dynamo_request_recv(request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_ERROR_INVALID_STATE);
    CHECK(response == NULL);
    CHECK(dynamo_request_fd(request) == -1);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    dynamo_request_destroy(request);
    RELIABILITY("a request is received from before it was sent", 3, "INVALID_STATE, at once");
}

static dynamo_runtime_t *created;

static void keep_runtime(void *user, const dynamo_creation_event_t *event) {
    (void)user;
    __atomic_store_n(&created, event->runtime, __ATOMIC_RELEASE);
}

static void of_another_type_or_stale(void) {
    const long before = rejected;
    CHECK_STATUS(dynamo_engine_register("keeper", &keeper, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *runtime = start("{'engine': 'keeper'}");
    dynamo_request_t *request = sent(runtime, say("a"));
    const dynamo_chunk_t chunk = {sizeof chunk, "hi", 2, NULL, 0, 0, NULL, NULL, NULL, NULL};
    CHECK_STATUS(dynamo_stream_push(kept, &chunk), DYNAMO_OK);
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK(response != NULL);

    check_rejected(runtime, RUNTIME);
    check_rejected(request, REQUEST);
    check_rejected(response, RESPONSE);
    check_rejected(kept, STREAM);
    dynamo_queue_t *queue = dynamo_queue_create();
    CHECK(queue != NULL);
    check_rejected(queue, QUEUE);
    dynamo_creation_t *creation =
        dynamo_runtime_create_async("{\"engine\": \"echo\"}", keep_runtime, NULL, NULL);
    CHECK(creation != NULL);
    check_rejected(creation, CREATION);
    EVENTUALLY(__atomic_load_n(&created, __ATOMIC_ACQUIRE) != NULL);
    dynamo_creation_destroy(creation);
    check_rejected(creation, -1);
    dynamo_runtime_destroy(created);
    dynamo_request_t *other = say("a");
    CHECK_STATUS(dynamo_request_set_queue(other, (dynamo_queue_t *)(void *)request, NULL),
                 DYNAMO_ERROR_INVALID_HANDLE);
    dynamo_request_destroy(other);
    dynamo_queue_destroy(queue);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    check_rejected(queue, -1);
    dynamo_chat_t *chat = dynamo_chat_create();
    check_rejected(chat, CHAT);
    dynamo_chat_destroy(chat);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    check_rejected(chat, -1);
    dynamo_json_t *text = dynamo_json_create("{}");
    check_rejected(text, JSON);
    CHECK_STATUS(dynamo_json_type(text, ""), DYNAMO_JSON_OBJECT);
    dynamo_json_destroy(text);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    check_rejected(text, -1);
    /* The valid handles still work. */
    CHECK_TEXT(dynamo_response_text(response, NULL), "hi");
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    CHECK(live_cancel_count == 0);

    CHECK_STATUS(dynamo_stream_finish(kept, NULL, NULL), DYNAMO_OK);
    dynamo_free(response);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    void *const stale[] = {runtime, request, response, kept};
    for (int i = 0; i < 4; ++i) {
        check_rejected(stale[i], -1); /* use after destroy or free, and double destroy or free */
    }
    /* The old handles stay stale when their slots are reused. */
    for (int round = 0; round < 100; ++round) {
        dynamo_runtime_t *again = start_echo();
        dynamo_request_t *next = sent(again, say("b"));
        dynamo_response_t *got = dynamo_request_recv(next);
        CHECK(got != NULL && (void *)next != (void *)request && (void *)got != (void *)response);
        if (round % 25 == 0) {
            for (int i = 0; i < 4; ++i) {
                check_rejected(stale[i], -1);
            }
        }
        CHECK_TEXT(dynamo_response_text(got, NULL), "b");
        dynamo_free(got);
        dynamo_request_destroy(next);
        dynamo_runtime_destroy(again);
    }
    CHECK_STATUS(dynamo_engine_unregister("keeper"), DYNAMO_OK);
    RELIABILITY("a function gets a handle of another type, or one that was destroyed or freed",
                rejected - before,
                "INVALID_HANDLE, also after its slot is used again; what it was went on");
}

static void foreign_pointers(void) {
    const long before = rejected;
    dynamo_runtime_t *runtime = start_echo(); /* so that live handles exist */
    dynamo_request_t *request = say("a");
    char on_the_stack[64] = "stack";
    char *allocated = malloc(64);
    CHECK(allocated != NULL);
    check_rejected(on_the_stack, -1);
    check_rejected(on_the_stack + 1, -1);
    check_rejected(allocated, -1);
    check_rejected(allocated + 1, -1);
    check_rejected((void *)(uintptr_t)"literal", -1);
    check_rejected((void *)(uintptr_t)&foreign_pointers, -1);
    free(allocated);
    for (uintptr_t small = 1; small < 512; ++small) {
        for (size_t i = 0; i < call_count; ++i) {
            CHECK_STATUS(calls[i].call((void *)small), DYNAMO_ERROR_INVALID_HANDLE);
            ++rejected;
        }
    }
    for (int bit = 0; bit < 64; ++bit) { /* handles with one bit flipped, type bits included */
        void *wrong = (void *)((uintptr_t)request ^ (uintptr_t)1 << bit);
        if (wrong != (void *)runtime) {
            check_rejected(wrong, -1);
        }
    }
    check_rejected((void *)UINTPTR_MAX, -1);
    check_rejected((void *)(UINTPTR_MAX / 3), -1);
    check_answer(sent(runtime, request), "a", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
    RELIABILITY(
        "a function gets a pointer that is not a handle: stack, heap, code, numbers, one wrong bit",
        rejected - before, "INVALID_HANDLE; nothing was read or written there");
}

static void freeing_twice_or_what_is_not_ours(void) {
    dynamo_free(NULL);
    dynamo_runtime_t *runtime = start_echo();
    char *text = dynamo_runtime_statistics(runtime);
    CHECK_CONTAINS(text, "\"engine\":\"echo\"");
    dynamo_free(text + 1);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    dynamo_free(text);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    dynamo_free(text);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    dynamo_free((void *)(uintptr_t)dynamo_config_schema());
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    dynamo_request_t *request = sent(runtime, say("a"));
    dynamo_free(request);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_CONTAINS(dynamo_last_error(), "was given a request; call dynamo_request_destroy()");
    dynamo_free(runtime);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_CONTAINS(dynamo_last_error(), "was given a runtime; call dynamo_runtime_destroy()");
    dynamo_queue_t *queue = dynamo_queue_create();
    dynamo_free(queue);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_CONTAINS(dynamo_last_error(), "was given a queue; call dynamo_queue_destroy()");
    dynamo_queue_destroy(queue);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    dynamo_free((void *)(uintptr_t)dynamo_request_id(request));
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    check_answer(request, "a", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a text is freed twice, or freed that is not the caller's", 7,
                "INVALID_HANDLE, and nothing was freed");
}

static void requests_outlive_their_runtime(void) {
    dynamo_runtime_t *runtime =
        start("{'engine': 'echo', 'options': {'repeat': 1000}, 'stream': {'capacity': 4}}");
    dynamo_request_t *request = sent(runtime, say("ab "));
    dynamo_request_t *unsent = say("c");
    dynamo_response_t *first = dynamo_request_recv(request);
    CHECK(first != NULL);
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_request_send(runtime, unsent), DYNAMO_ERROR_INVALID_HANDLE);
    dynamo_request_destroy(unsent);
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    size_t length;
    dynamo_response_text(first, &length);
    CHECK(whole.length + length == 3000);
    answer_free(&whole);
    dynamo_request_destroy(request);
    CHECK(strncmp(dynamo_response_text(first, NULL), "ab", 2) == 0);
    CHECK_CONTAINS(dynamo_response_json(first), "text_completion");
    dynamo_free(first);
    RELIABILITY("a runtime is destroyed before its request and its response", 1,
                "the whole answer came; both could be used until their own end");
}

static void what_is_returned_stays_as_long_as_its_owner(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = say("a b");
    const char *id = dynamo_request_id(request);
    CHECK(strlen(id) == 20 && strncmp(id, "req-", 4) == 0);
    CHECK(strspn(id + 4, "0123456789abcdef") == 16);
    dynamo_request_t *other = say("c");
    CHECK(strcmp(id, dynamo_request_id(other)) != 0);
    dynamo_request_destroy(other);
    sent(runtime, request);
    CHECK(dynamo_request_id(request) == id);
    dynamo_response_t *response = dynamo_request_recv(request);
    const char *text = dynamo_response_text(response, NULL);
    const char *body = dynamo_response_json(response);
    CHECK(dynamo_response_text(response, NULL) == text && dynamo_response_json(response) == body);
    dynamo_request_destroy(request);
    CHECK(text[0] == 'a');
    dynamo_free(response);
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    RUN(sent_twice);
    RUN(received_before_sent);
    RUN(of_another_type_or_stale);
    RUN(foreign_pointers);
    RUN(freeing_twice_or_what_is_not_ours);
    RUN(requests_outlive_their_runtime);
    RUN(what_is_returned_stays_as_long_as_its_owner);
    return 0;
}
