/* SPDX-License-Identifier: Apache-2.0 */
#include "calls.h"

#include "check.h"

static int32_t after(int result_says_failure) {
    CHECK(result_says_failure);
    return dynamo_last_status();
}

static void never(void *user, dynamo_request_t *request, dynamo_response_t *response,
                  int32_t status) {
    (void)user, (void)request, (void)response, (void)status;
    CHECK(!"called for a request that is none");
}

static int32_t runtime_shutdown(void *h) {
    return dynamo_runtime_shutdown(h, 0);
}
static int32_t runtime_models(void *h) {
    return after(dynamo_runtime_models(h) == NULL);
}
static int32_t runtime_call(void *h) {
    return after(dynamo_runtime_call(h, "sleep", "{}", -1) == NULL);
}
static int32_t runtime_metrics(void *h) {
    return after(dynamo_runtime_metrics(h) == NULL);
}
static int32_t runtime_statistics(void *h) {
    return after(dynamo_runtime_statistics(h) == NULL);
}
static int32_t runtime_destroy(void *h) {
    return dynamo_runtime_destroy(h), after(1);
}
static int32_t request_send(void *h) {
    return dynamo_request_send(h, NULL);
}

static int32_t request_set_deadlines(void *h) {
    return dynamo_request_set_deadlines(h, 1, 1);
}
static int32_t request_set_callback(void *h) {
    return dynamo_request_set_callback(h, never, NULL, NULL);
}
static int32_t request_recv(void *h) {
    return after(dynamo_request_recv(h) == NULL);
}
static int32_t request_next(void *h) {
    dynamo_response_t *response = (dynamo_response_t *)h;
    const int32_t status = dynamo_request_next(h, -1, &response);
    CHECK(response == NULL);
    return status;
}
static int32_t request_cancel(void *h) {
    return dynamo_request_cancel(h);
}
static int32_t request_fd(void *h) {
    return after(dynamo_request_fd(h) == -1);
}
static void never_ready(void *user) {
    (void)user;
    CHECK(!"called");
}
static int32_t request_set_queue(void *h) {
    return dynamo_request_set_queue(h, NULL, NULL);
}
static int32_t queue_next(void *h) {
    dynamo_event_t event = {sizeof event, h, h, h, 1};
    const int32_t status = dynamo_queue_next(h, -1, &event);
    CHECK(event.request == NULL && event.user == NULL && event.response == NULL);
    return status;
}
static int32_t queue_fd(void *h) {
    return after(dynamo_queue_fd(h) == -1);
}
static int32_t queue_wake(void *h) {
    return dynamo_queue_wake(h);
}
static int32_t queue_destroy(void *h) {
    return dynamo_queue_destroy(h), after(1);
}
static int32_t creation_cancel(void *h) {
    return dynamo_creation_cancel(h);
}
static int32_t creation_wait(void *h) {
    return dynamo_creation_wait(h, 0);
}
static int32_t creation_destroy(void *h) {
    return dynamo_creation_destroy(h), after(1);
}
static int32_t request_notify(void *h) {
    return dynamo_request_notify(h, never_ready, NULL);
}
static int32_t request_status(void *h) {
    return dynamo_request_status(h);
}
static int32_t request_error(void *h) {
    return after(dynamo_request_error(h) == NULL);
}
static int32_t request_error_json(void *h) {
    return after(dynamo_request_error_json(h) == NULL);
}
static int32_t request_id(void *h) {
    return after(dynamo_request_id(h) == NULL);
}
static int32_t request_destroy(void *h) {
    return dynamo_request_destroy(h), after(1);
}

static int32_t response_text(void *h) {
    size_t length = 9;
    return after(dynamo_response_text(h, &length) == NULL && length == 0);
}
static int32_t response_token_ids(void *h) {
    size_t count = 9;
    return after(dynamo_response_token_ids(h, &count) == NULL && count == 0);
}
static int32_t response_item_count(void *h) {
    return after(dynamo_response_item_count(h) == 0);
}
static int32_t response_item(void *h) {
    dynamo_data_t item;
    return dynamo_response_item(h, 0, &item);
}
static int32_t response_index(void *h) {
    return after(dynamo_response_index(h) == 0);
}
static int32_t response_finish_reason(void *h) {
    return after(dynamo_response_finish_reason(h) == NULL);
}
static int32_t response_timing(void *h) {
    dynamo_timing_t timing = {sizeof timing, 0, 0, 0};
    return dynamo_response_timing(h, &timing);
}
static int32_t request_timing(void *h) {
    dynamo_timing_t timing = {sizeof timing, 0, 0, 0};
    return dynamo_request_timing(h, &timing);
}
static int32_t request_usage(void *h) {
    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    return dynamo_request_usage(h, &usage);
}
static int32_t response_usage(void *h) {
    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    return dynamo_response_usage(h, &usage);
}
static int32_t response_json(void *h) {
    return after(dynamo_response_json(h) == NULL);
}
static int32_t response_tool_call_count(void *h) {
    return after(dynamo_response_tool_call_count(h) == 0);
}
static int32_t response_tool_call(void *h) {
    dynamo_tool_call_t call = {sizeof call, "x", "x", "x"};
    const int32_t status = dynamo_response_tool_call(h, 0, &call);
    CHECK(call.id == NULL && call.name == NULL && call.arguments == NULL);
    return status;
}
static int32_t response_reasoning(void *h) {
    size_t length = 9;
    return after(dynamo_response_reasoning(h, &length) == NULL && length == 0);
}
static int32_t response_logprob_count(void *h) {
    return after(dynamo_response_logprob_count(h) == 0);
}
static int32_t response_logprob(void *h) {
    dynamo_logprob_t logprob = {sizeof logprob, "x", 1, 1, 1, 1};
    const int32_t status = dynamo_response_logprob(h, 0, &logprob);
    CHECK(logprob.text == NULL);
    return status;
}
static int32_t response_alternative(void *h) {
    dynamo_logprob_t logprob = {sizeof logprob, "x", 1, 1, 1, 1};
    const int32_t status = dynamo_response_alternative(h, 0, 0, &logprob);
    CHECK(logprob.text == NULL);
    return status;
}
static int32_t response_embedding_count(void *h) {
    return after(dynamo_response_embedding_count(h) == 0);
}
static int32_t response_embedding(void *h) {
    size_t dimensions = 9;
    return after(dynamo_response_embedding(h, 0, &dimensions) == NULL && dimensions == 0);
}
static int32_t runtime_complete(void *h) {
    return after(dynamo_runtime_complete(h, "{\"prompt\": \"x\"}", -1) == NULL);
}

static int32_t chat_add_message(void *h) {
    return dynamo_chat_add_message(h, "user", "x");
}
static int32_t chat_add_message_json(void *h) {
    return dynamo_chat_add_message_json(h, "{}");
}
static int32_t chat_add_media(void *h) {
    return dynamo_chat_add_media(h, "image/png", "x", 1);
}
static int32_t chat_add_answer(void *h) {
    return dynamo_chat_add_answer(h, NULL);
}
static int32_t chat_add_tool_result(void *h) {
    return dynamo_chat_add_tool_result(h, "x", "x");
}
static int32_t chat_add_tool(void *h) {
    return dynamo_chat_add_tool(h, "x", NULL, NULL);
}
static int32_t chat_add_parameter(void *h) {
    return dynamo_chat_add_parameter(h, "x", "x", "string", NULL, 1);
}
static int32_t chat_set_string(void *h) {
    return dynamo_chat_set_string(h, "x", "x");
}
static int32_t chat_set_number(void *h) {
    return dynamo_chat_set_number(h, "x", 1);
}
static int32_t chat_set_integer(void *h) {
    return dynamo_chat_set_integer(h, "x", 1);
}
static int32_t chat_set_boolean(void *h) {
    return dynamo_chat_set_boolean(h, "x", 1);
}
static int32_t chat_set_json(void *h) {
    return dynamo_chat_set_json(h, "x", "{}");
}
static int32_t chat_json(void *h) {
    return after(dynamo_chat_json(h) == NULL);
}
static int32_t request_create_chat(void *h) {
    return after(dynamo_request_create_chat(h) == NULL);
}
static int32_t chat_complete(void *h) {
    return after(dynamo_chat_complete(h, NULL, -1) == NULL);
}
static int32_t chat_destroy(void *h) {
    return dynamo_chat_destroy(h), after(1);
}

static int32_t json_type(void *h) {
    return dynamo_json_type(h, "");
}
static int32_t json_string(void *h) {
    size_t length = 9;
    return after(dynamo_json_string(h, "", &length) == NULL && length == 0);
}
static int32_t json_boolean(void *h) {
    return after(dynamo_json_boolean(h, "", 5) == 5);
}
static int32_t json_number(void *h) {
    return after(dynamo_json_number(h, "", 0.5) > 0.4);
}
static int32_t json_integer(void *h) {
    return after(dynamo_json_integer(h, "", 5) == 5);
}
static int32_t json_count(void *h) {
    return after(dynamo_json_count(h, "") == 0);
}
static int32_t json_name(void *h) {
    return after(dynamo_json_name(h, "", 0) == NULL);
}
static int32_t json_destroy(void *h) {
    return dynamo_json_destroy(h), after(1);
}

static int32_t response_free(void *h) {
    return dynamo_free(h), after(1);
}

static int32_t stream_push(void *h) {
    const dynamo_chunk_t chunk = {sizeof chunk, "x", 1, NULL, 0, 0, NULL, NULL, NULL, NULL};
    return dynamo_stream_push(h, &chunk);
}
static int32_t stream_wait(void *h) {
    return dynamo_stream_wait(h, -1);
}
static int32_t stream_is_cancelled(void *h) {
    return dynamo_stream_is_cancelled(h);
}
static int32_t stream_set_queued(void *h) {
    return dynamo_stream_set_queued(h, 0);
}

static int32_t stream_remaining(void *h) {
    int64_t remaining;
    return dynamo_stream_remaining(h, &remaining);
}
static int32_t stream_finish(void *h) {
    return dynamo_stream_finish(h, NULL, NULL);
}
static int32_t stream_fail(void *h) {
    return dynamo_stream_fail(h, DYNAMO_ERROR_ENGINE_FAILED, "x", NULL);
}

static int32_t tokenizer_info(void *h) {
    return after(dynamo_tokenizer_info(h) == NULL);
}
static int32_t tokenizer_encode(void *h) {
    uint32_t one = 1;
    uint32_t *ids = &one;
    size_t count = 9;
    const int32_t status = dynamo_tokenizer_encode(h, "x", 1, 0, &ids, &count);
    CHECK(ids == NULL && count == 0);
    return status;
}
static int32_t tokenizer_decode(void *h) {
    const uint32_t one = 1;
    size_t length = 9;
    return after(dynamo_tokenizer_decode(h, &one, 1, 0, &length) == NULL && length == 0);
}
static int32_t tokenizer_apply_template(void *h) {
    size_t length = 9;
    return after(dynamo_tokenizer_apply_template(h, "{}", &length) == NULL && length == 0);
}
static int32_t tokenizer_destroy(void *h) {
    return dynamo_tokenizer_destroy(h), after(1);
}
static int32_t detokenizer_create(void *h) {
    return after(dynamo_detokenizer_create(h, 0) == NULL);
}
static int32_t detokenizer_add(void *h) {
    const uint32_t one = 1;
    size_t length = 9;
    return after(dynamo_detokenizer_add(h, &one, 1, &length) == NULL && length == 0);
}
static int32_t detokenizer_finish(void *h) {
    size_t length = 9;
    return after(dynamo_detokenizer_finish(h, &length) == NULL && length == 0);
}
static int32_t detokenizer_destroy(void *h) {
    return dynamo_detokenizer_destroy(h), after(1);
}

static int32_t kv_publisher_info(void *h) {
    return after(dynamo_kv_publisher_info(h) == NULL);
}
static int32_t kv_publisher_stored(void *h) {
    return dynamo_kv_publisher_stored(h, NULL);
}
static int32_t kv_publisher_removed(void *h) {
    return dynamo_kv_publisher_removed(h, NULL, 0);
}
static int32_t kv_publisher_cleared(void *h) {
    return dynamo_kv_publisher_cleared(h);
}
static int32_t kv_publisher_publish_many(void *h) {
    return dynamo_kv_publisher_publish_many(h, NULL, 0, sizeof(dynamo_kv_event_t));
}
static int32_t kv_publisher_flush(void *h) {
    return dynamo_kv_publisher_flush(h, -1);
}
static int32_t kv_publisher_statistics(void *h) {
    return after(dynamo_kv_publisher_statistics(h) == NULL);
}
static int32_t kv_publisher_hashes(void *h) {
    uint64_t one = 1;
    uint64_t *hashes = &one;
    size_t count = 9;
    const int32_t status = dynamo_kv_publisher_hashes(h, NULL, 0, NULL, NULL, &hashes, &count);
    CHECK(hashes == NULL && count == 0);
    return status;
}
static int32_t kv_publisher_destroy(void *h) {
    return dynamo_kv_publisher_destroy(h), after(1);
}

static int32_t worker_info(void *h) {
    return after(dynamo_worker_info(h) == NULL);
}
static int32_t worker_shutdown(void *h) {
    return dynamo_worker_shutdown(h, 0);
}
static int32_t worker_wait(void *h) {
    return dynamo_worker_wait(h, -1);
}
static int32_t worker_publish_load(void *h) {
    const dynamo_worker_load_t load = {sizeof load, 0, -1, -1};
    return dynamo_worker_publish_load(h, &load);
}
static int32_t worker_destroy(void *h) {
    return dynamo_worker_destroy(h), after(1);
}

static int32_t router_info(void *h) {
    return after(dynamo_router_info(h) == NULL);
}
static int32_t router_select(void *h) {
    return after(dynamo_router_select(h, NULL, 0, NULL) == NULL);
}
static int32_t router_select_body(void *h) {
    return after(dynamo_router_select_body(h, "{}", NULL) == NULL);
}
static int32_t router_reserve(void *h) {
    return dynamo_router_reserve(h, "x", NULL, NULL);
}
static int32_t router_prefill_complete(void *h) {
    return dynamo_router_prefill_complete(h, "x");
}
static int32_t router_output_block(void *h) {
    return dynamo_router_output_block(h, "x", 1);
}
static int32_t router_free(void *h) {
    return dynamo_router_free(h, "x");
}
static int32_t router_loads(void *h) {
    return after(dynamo_router_loads(h, NULL, 0, NULL) == NULL);
}
static int32_t router_overlaps(void *h) {
    return after(dynamo_router_overlaps(h, NULL, 0, NULL) == NULL);
}
static int32_t router_workers(void *h) {
    return after(dynamo_router_workers(h) == NULL);
}
static int32_t router_upsert_worker(void *h) {
    return dynamo_router_upsert_worker(h, "{}");
}
static int32_t router_delete_worker(void *h) {
    return dynamo_router_delete_worker(h, 1);
}
static int32_t router_destroy(void *h) {
    return dynamo_router_destroy(h), after(1);
}

const struct call calls[] = {
    {"dynamo_runtime_shutdown", RUNTIME, 0, runtime_shutdown},
    {"dynamo_runtime_statistics", RUNTIME, 0, runtime_statistics},
    {"dynamo_runtime_models", RUNTIME, 0, runtime_models},
    {"dynamo_runtime_metrics", RUNTIME, 0, runtime_metrics},
    {"dynamo_runtime_call", RUNTIME, 0, runtime_call},
    {"dynamo_runtime_destroy", RUNTIME, 1, runtime_destroy},
    {"dynamo_creation_cancel", CREATION, 0, creation_cancel},
    {"dynamo_creation_wait", CREATION, 0, creation_wait},
    {"dynamo_creation_destroy", CREATION, 1, creation_destroy},
    {"dynamo_request_send", RUNTIME, 0, request_send},
    {"dynamo_request_set_deadlines", REQUEST, 0, request_set_deadlines},
    {"dynamo_request_set_callback", REQUEST, 0, request_set_callback},
    {"dynamo_request_recv", REQUEST, 0, request_recv},
    {"dynamo_request_next", REQUEST, 0, request_next},
    {"dynamo_request_cancel", REQUEST, 0, request_cancel},
    {"dynamo_request_fd", REQUEST, 0, request_fd},
    {"dynamo_request_notify", REQUEST, 0, request_notify},
    {"dynamo_request_set_queue", REQUEST, 0, request_set_queue},
    {"dynamo_queue_next", QUEUE, 0, queue_next},
    {"dynamo_queue_fd", QUEUE, 0, queue_fd},
    {"dynamo_queue_wake", QUEUE, 0, queue_wake},
    {"dynamo_queue_destroy", QUEUE, 1, queue_destroy},
    {"dynamo_request_status", REQUEST, 0, request_status},
    {"dynamo_request_error", REQUEST, 0, request_error},
    {"dynamo_request_error_json", REQUEST, 0, request_error_json},
    {"dynamo_request_id", REQUEST, 0, request_id},
    {"dynamo_request_usage", REQUEST, 0, request_usage},
    {"dynamo_request_timing", REQUEST, 0, request_timing},
    {"dynamo_request_destroy", REQUEST, 1, request_destroy},
    {"dynamo_response_text", RESPONSE, 0, response_text},
    {"dynamo_response_token_ids", RESPONSE, 0, response_token_ids},
    {"dynamo_response_index", RESPONSE, 0, response_index},
    {"dynamo_response_item_count", RESPONSE, 0, response_item_count},
    {"dynamo_response_item", RESPONSE, 0, response_item},
    {"dynamo_response_finish_reason", RESPONSE, 0, response_finish_reason},
    {"dynamo_response_usage", RESPONSE, 0, response_usage},
    {"dynamo_response_timing", RESPONSE, 0, response_timing},
    {"dynamo_response_json", RESPONSE, 0, response_json},
    {"dynamo_free", RESPONSE, 1, response_free},
    {"dynamo_response_tool_call_count", RESPONSE, 0, response_tool_call_count},
    {"dynamo_response_tool_call", RESPONSE, 0, response_tool_call},
    {"dynamo_response_reasoning", RESPONSE, 0, response_reasoning},
    {"dynamo_response_logprob_count", RESPONSE, 0, response_logprob_count},
    {"dynamo_response_logprob", RESPONSE, 0, response_logprob},
    {"dynamo_response_alternative", RESPONSE, 0, response_alternative},
    {"dynamo_response_embedding_count", RESPONSE, 0, response_embedding_count},
    {"dynamo_response_embedding", RESPONSE, 0, response_embedding},
    {"dynamo_runtime_complete", RUNTIME, 0, runtime_complete},
    {"dynamo_chat_add_message", CHAT, 0, chat_add_message},
    {"dynamo_chat_add_message_json", CHAT, 0, chat_add_message_json},
    {"dynamo_chat_add_media", CHAT, 0, chat_add_media},
    {"dynamo_chat_add_answer", CHAT, 0, chat_add_answer},
    {"dynamo_chat_add_tool_result", CHAT, 0, chat_add_tool_result},
    {"dynamo_chat_add_tool", CHAT, 0, chat_add_tool},
    {"dynamo_chat_add_parameter", CHAT, 0, chat_add_parameter},
    {"dynamo_chat_set_string", CHAT, 0, chat_set_string},
    {"dynamo_chat_set_number", CHAT, 0, chat_set_number},
    {"dynamo_chat_set_integer", CHAT, 0, chat_set_integer},
    {"dynamo_chat_set_boolean", CHAT, 0, chat_set_boolean},
    {"dynamo_chat_set_json", CHAT, 0, chat_set_json},
    {"dynamo_chat_json", CHAT, 0, chat_json},
    {"dynamo_request_create_chat", CHAT, 0, request_create_chat},
    {"dynamo_chat_complete", RUNTIME, 0, chat_complete},
    {"dynamo_chat_destroy", CHAT, 1, chat_destroy},
    {"dynamo_json_type", JSON, 0, json_type},
    {"dynamo_json_string", JSON, 0, json_string},
    {"dynamo_json_boolean", JSON, 0, json_boolean},
    {"dynamo_json_number", JSON, 0, json_number},
    {"dynamo_json_integer", JSON, 0, json_integer},
    {"dynamo_json_count", JSON, 0, json_count},
    {"dynamo_json_name", JSON, 0, json_name},
    {"dynamo_json_destroy", JSON, 1, json_destroy},
    {"dynamo_tokenizer_info", TOKENIZER, 0, tokenizer_info},
    {"dynamo_tokenizer_encode", TOKENIZER, 0, tokenizer_encode},
    {"dynamo_tokenizer_decode", TOKENIZER, 0, tokenizer_decode},
    {"dynamo_tokenizer_apply_template", TOKENIZER, 0, tokenizer_apply_template},
    {"dynamo_tokenizer_destroy", TOKENIZER, 1, tokenizer_destroy},
    {"dynamo_detokenizer_create", TOKENIZER, 0, detokenizer_create},
    {"dynamo_detokenizer_add", DETOKENIZER, 0, detokenizer_add},
    {"dynamo_detokenizer_finish", DETOKENIZER, 0, detokenizer_finish},
    {"dynamo_detokenizer_destroy", DETOKENIZER, 1, detokenizer_destroy},
    {"dynamo_stream_push", STREAM, 0, stream_push},
    {"dynamo_stream_wait", STREAM, 0, stream_wait},
    {"dynamo_stream_is_cancelled", STREAM, 0, stream_is_cancelled},
    {"dynamo_stream_set_queued", STREAM, 0, stream_set_queued},
    {"dynamo_stream_remaining", STREAM, 0, stream_remaining},
    {"dynamo_stream_finish", STREAM, 0, stream_finish},
    {"dynamo_stream_fail", STREAM, 0, stream_fail},
    {"dynamo_worker_info", WORKER, 0, worker_info},
    {"dynamo_worker_shutdown", WORKER, 0, worker_shutdown},
    {"dynamo_worker_wait", WORKER, 0, worker_wait},
    {"dynamo_worker_publish_load", WORKER, 0, worker_publish_load},
    {"dynamo_worker_destroy", WORKER, 1, worker_destroy},
    {"dynamo_kv_publisher_info", KV_PUBLISHER, 0, kv_publisher_info},
    {"dynamo_kv_publisher_stored", KV_PUBLISHER, 0, kv_publisher_stored},
    {"dynamo_kv_publisher_removed", KV_PUBLISHER, 0, kv_publisher_removed},
    {"dynamo_kv_publisher_cleared", KV_PUBLISHER, 0, kv_publisher_cleared},
    {"dynamo_kv_publisher_publish_many", KV_PUBLISHER, 0, kv_publisher_publish_many},
    {"dynamo_kv_publisher_flush", KV_PUBLISHER, 0, kv_publisher_flush},
    {"dynamo_kv_publisher_statistics", KV_PUBLISHER, 0, kv_publisher_statistics},
    {"dynamo_kv_publisher_hashes", KV_PUBLISHER, 0, kv_publisher_hashes},
    {"dynamo_kv_publisher_destroy", KV_PUBLISHER, 1, kv_publisher_destroy},
    {"dynamo_router_info", ROUTER, 0, router_info},
    {"dynamo_router_select", ROUTER, 0, router_select},
    {"dynamo_router_select_body", ROUTER, 0, router_select_body},
    {"dynamo_router_reserve", ROUTER, 0, router_reserve},
    {"dynamo_router_prefill_complete", ROUTER, 0, router_prefill_complete},
    {"dynamo_router_output_block", ROUTER, 0, router_output_block},
    {"dynamo_router_free", ROUTER, 0, router_free},
    {"dynamo_router_loads", ROUTER, 0, router_loads},
    {"dynamo_router_overlaps", ROUTER, 0, router_overlaps},
    {"dynamo_router_workers", ROUTER, 0, router_workers},
    {"dynamo_router_upsert_worker", ROUTER, 0, router_upsert_worker},
    {"dynamo_router_delete_worker", ROUTER, 0, router_delete_worker},
    {"dynamo_router_destroy", ROUTER, 1, router_destroy},
};
const size_t call_count = sizeof calls / sizeof calls[0];
