/* SPDX-License-Identifier: Apache-2.0 */
/* Raw requests: JSON and byte payloads, sent and received, also through an engine in C. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

static dynamo_request_t *of_data(int32_t kind, const void *data, size_t length) {
    dynamo_request_t *const request = dynamo_request_create_data(kind, data, length);
    CHECK(request != NULL);
    return request;
}

/* Receives `count` payloads, compares each with `data`, then expects the end. */
static void check_items(dynamo_request_t *request, size_t count, const void *data, size_t length,
                        int32_t kind) {
    size_t seen = 0;
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        const size_t items = dynamo_response_item_count(response);
        CHECK(items > 0);
        for (size_t i = 0; i < items; ++i, ++seen) {
            dynamo_data_t item;
            CHECK_STATUS(dynamo_response_item(response, i, &item), DYNAMO_OK);
            CHECK(item.length == length && item.kind == kind);
            CHECK(memcmp(item.bytes, data, length) == 0);
            CHECK(((const char *)item.bytes)[length] == '\0');
        }
        size_t length_of_text = 1;
        CHECK_TEXT(dynamo_response_text(response, &length_of_text), "");
        CHECK(length_of_text == 0 && dynamo_response_finish_reason(response) == NULL);
        dynamo_free(response);
    }
    CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    CHECK(seen == count);
    dynamo_request_destroy(request);
}

static void data_comes_back_as_it_is(void) {
    dynamo_runtime_t *const runtime = start_echo();
    const char bytes[] = {'\0', '\xff', 'a', '\0', '\xc3'};
    check_items(sent(runtime, of_data(DYNAMO_DATA_BYTES, bytes, sizeof bytes)), 1, bytes,
                sizeof bytes, DYNAMO_DATA_BYTES);
    check_items(sent(runtime, of_data(DYNAMO_DATA_BYTES, NULL, 0)), 1, "", 0, DYNAMO_DATA_BYTES);
    const char *const texts[] = {"{\"a\": [1, null]}", "\"text\"", "0.5", "null", "[]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        check_items(sent(runtime, of_data(DYNAMO_DATA_JSON, texts[i], strlen(texts[i]))), 1,
                    texts[i], strlen(texts[i]), DYNAMO_DATA_JSON);
    }
    dynamo_runtime_destroy(runtime);
}

static void a_stream_of_items_is_bounded(void) {
    dynamo_runtime_t *const runtime =
        start("{'engine': 'echo', 'options': {'repeat': 1000}, 'stream': {'capacity': 10}}");
    dynamo_request_t *request = sent(runtime, of_data(DYNAMO_DATA_BYTES, "item", 4));
    EVENTUALLY(statistic(runtime, "full") > 0); /* nothing is received yet */
    check_items(request, 1000, "item", 4, DYNAMO_DATA_BYTES);
    request = sent(runtime, of_data(DYNAMO_DATA_BYTES, "item", 4));
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        dynamo_free(response);
    }
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_CANCELLED);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void items_as_json(void) {
    dynamo_runtime_t *const runtime = start_echo();
    const struct {
        int32_t kind;
        const char *data;
        const char *json;
    } cases[] = {
        {DYNAMO_DATA_JSON, "{\"b\":1,\"a\":2}", "{\"items\":[{\"b\":1,\"a\":2}]}"},
        {DYNAMO_DATA_BYTES, "", "{\"items\":[{\"base64\":\"\"}]}"},
        {DYNAMO_DATA_BYTES, "f", "{\"items\":[{\"base64\":\"Zg==\"}]}"},
        {DYNAMO_DATA_BYTES, "fo", "{\"items\":[{\"base64\":\"Zm8=\"}]}"},
        {DYNAMO_DATA_BYTES, "foo", "{\"items\":[{\"base64\":\"Zm9v\"}]}"},
        {DYNAMO_DATA_BYTES, "foobar", "{\"items\":[{\"base64\":\"Zm9vYmFy\"}]}"},
        {DYNAMO_DATA_BYTES, "\xff\xfe\xfb", "{\"items\":[{\"base64\":\"//77\"}]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        dynamo_request_t *const request =
            sent(runtime, of_data(cases[i].kind, cases[i].data, strlen(cases[i].data)));
        dynamo_response_t *const response = dynamo_request_recv(request);
        CHECK_TEXT(dynamo_response_json(response), cases[i].json);
        dynamo_free(response);
        dynamo_request_destroy(request);
    }
    dynamo_runtime_destroy(runtime);
}

/* A raw engine: it returns its payload, and tries to push invalid ones. */
static int32_t start_data(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate_data(void *instance, dynamo_stream_t *stream, const char *id,
                             const dynamo_data_t *data) {
    (void)instance;
    CHECK_CONTAINS(id, "req-");
    const dynamo_data_t wrong[] = {
        {"{", 1, DYNAMO_DATA_JSON}, {NULL, 1, DYNAMO_DATA_BYTES}, {"x", 1, 0}, {"x", 1, 3}};
    const char *const says[] = {"chunk's data", "chunk.data->bytes is NULL", "kind is 0",
                                "kind is 3; it must be DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .data = &wrong[i]};
        CHECK(dynamo_stream_push(stream, &chunk) < 0);
        CHECK_CONTAINS(dynamo_last_error(), says[i]);
    }
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .data = data};
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    /* As in a program that was built when the struct was smaller. */
    dynamo_chunk_t old = chunk;
    old.struct_size = offsetof(dynamo_chunk_t, data);
    CHECK_STATUS(dynamo_stream_push(stream, &old), DYNAMO_OK);
    return dynamo_stream_finish(stream, NULL, NULL);
}

static void cancel_data(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop_data(void *instance) {
    (void)instance;
}

static void an_engine_of_data(void) {
    dynamo_engine_t engine = {.struct_size = sizeof engine,
                              .start = start_data,
                              .cancel = cancel_data,
                              .stop = stop_data,
                              .kind = DYNAMO_ENGINE_DATA};
    CHECK_STATUS(dynamo_engine_register("data", &engine, NULL, NULL),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "generate_data");
    engine.generate_data = generate_data;
    CHECK_STATUS(dynamo_engine_register("data", &engine, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *const runtime = start("{'engine': 'data'}");
    check_items(sent(runtime, of_data(DYNAMO_DATA_JSON, "[1]", 3)), 1, "[1]", 3, DYNAMO_DATA_JSON);
    dynamo_request_t *const chat = ask("{'messages': [{'role': 'user', 'content': 'hi'}]}");
    CHECK_STATUS(dynamo_request_send(runtime, chat), DYNAMO_ERROR_NOT_SUPPORTED);
    CHECK_CONTAINS(dynamo_last_error(), "accepts raw requests only, not OpenAI bodies");
    dynamo_request_destroy(chat);
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_engine_unregister("data"), DYNAMO_OK);
}

static void what_is_no_data_is_refused(void) {
    CHECK(dynamo_request_create_data(0, "x", 1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES");
    CHECK(dynamo_request_create_data(DYNAMO_DATA_BYTES, NULL, 1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK(dynamo_request_create_data(DYNAMO_DATA_JSON, "{1", 2) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_JSON);
    CHECK(dynamo_request_create_data(DYNAMO_DATA_JSON, NULL, 0) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_JSON);

    dynamo_runtime_t *const scripted = start_script("[]");
    dynamo_request_t *const request = of_data(DYNAMO_DATA_JSON, "1", 1);
    CHECK_STATUS(dynamo_request_send(scripted, request), DYNAMO_ERROR_NOT_SUPPORTED);
    CHECK_CONTAINS(dynamo_last_error(), "\"scripted\" accepts OpenAI bodies");
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(scripted);

    dynamo_runtime_t *const echo = start_echo();
    dynamo_request_t *const said = sent(echo, say("a"));
    dynamo_response_t *const response = dynamo_request_recv(said);
    dynamo_data_t item;
    CHECK(dynamo_response_item_count(response) == 0);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    CHECK_STATUS(dynamo_response_item(response, 0, &item), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "index is 0, but the response has 0 item(s)");
    CHECK_STATUS(dynamo_response_item(response, 0, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    dynamo_free(response);
    dynamo_request_destroy(said);
    dynamo_runtime_destroy(echo);
}

int main(void) {
    BEGIN();
    RUN(data_comes_back_as_it_is);
    RUN(a_stream_of_items_is_bounded);
    RUN(items_as_json);
    RUN(an_engine_of_data);
    RUN(what_is_no_data_is_refused);
    return 0;
}
