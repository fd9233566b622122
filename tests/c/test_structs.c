/* SPDX-License-Identifier: Apache-2.0 */
/* Programs built with an older header have smaller structs, those built with a newer header larger ones. Every size
 * since the first release must work, and the library must neither read nor write past it. The structs of a cluster are
 * tested if three configurations are given as arguments: of a router over workers 1 and 2, of a KV publisher with
 * blocks of 16 tokens, and of a worker (tests/python/cluster/test_static_router.py). */
#include <stdlib.h>
#include <string.h>

#include "dynamo_llm/cluster.h"
#include "dynamo_llm/engine.h"
#include "support.h"

/* Size of a struct up to and including a member, without padding. Same as in cpp/base/structs.hpp; never changes. */
#define UP_TO(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

enum { guard_size = 64, guard = 0xee };

/* Returns a struct of `size` bytes: the members of `whole` that fit, then garbage that the library must not access. */
static void *resized(const void *whole, size_t whole_size, size_t size) {
    unsigned char *const memory = malloc(size + guard_size);
    CHECK(memory != NULL);
    memset(memory, guard, size + guard_size);
    memcpy(memory, whole, size < whole_size ? size : whole_size);
    memcpy(memory, &size, sizeof size); /* struct_size */
    return memory;
}

/* Returns how many bytes of the garbage after `size` were overwritten. */
static size_t touched(const void *memory, size_t size) {
    size_t count = 0;
    for (size_t i = size; i < size + guard_size; ++i) {
        count += ((const unsigned char *)memory)[i] != guard;
    }
    return count;
}

/* ------------------------------------------------------------------ an engine that uses structs of any size */

static size_t engine_size, chunk_size, usage_size;

static int32_t old_start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t old_generate(void *instance, dynamo_stream_t *stream, const char *id,
                            const char *body) {
    (void)instance, (void)id, (void)body;
    const uint32_t ids[] = {7, 8};
    const dynamo_chunk_t whole = {
        .text = "ab", .text_length = 2, .token_ids = ids, .token_count = 2};
    dynamo_chunk_t *const chunk = resized(&whole, sizeof whole, chunk_size);
    CHECK_STATUS(dynamo_stream_push(stream, chunk), DYNAMO_OK);
    free(chunk);
    const dynamo_chunk_t none = {0};
    dynamo_chunk_t *const small =
        resized(&none, sizeof none, UP_TO(dynamo_chunk_t, logprobs_json) - 1);
    CHECK_STATUS(dynamo_stream_push(stream, small), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "chunk->struct_size is ");
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_chunk_t)");
    free(small);
    const dynamo_usage_t counts = {0, 5, 2, 1};
    dynamo_usage_t *const usage = resized(&counts, sizeof counts, usage_size);
    CHECK_STATUS(dynamo_stream_finish(stream, "length", usage), DYNAMO_OK);
    free(usage);
    return DYNAMO_OK;
}

static void old_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void old_stop(void *instance) {
    (void)instance;
}

static const dynamo_engine_t old_engine = {
    .start = old_start, .generate = old_generate, .cancel = old_cancel, .stop = old_stop};

static dynamo_response_t *response_of(dynamo_runtime_t *runtime) {
    dynamo_request_t *const request = sent(runtime, ask("{'prompt': 'x', 'stream': false}"));
    dynamo_response_t *const response = dynamo_request_recv(request);
    CHECK_TEXT(dynamo_response_text(response, NULL), "ab");
    CHECK_TEXT(dynamo_response_finish_reason(response), "length");
    dynamo_request_destroy(request);
    return response;
}

static void check_usage(const dynamo_response_t *response, size_t size, uint64_t cached) {
    const dynamo_usage_t none = {0};
    dynamo_usage_t *const usage = resized(&none, sizeof none, size);
    CHECK_STATUS(dynamo_response_usage(response, usage), DYNAMO_OK);
    CHECK(usage->prompt_tokens == 5 && usage->completion_tokens == 2);
    CHECK(usage->struct_size == size && touched(usage, size) == 0);
    CHECK(size < UP_TO(dynamo_usage_t, cached_tokens) || usage->cached_tokens == cached);
    free(usage);
}

static void engines_bring_structs_of_any_size(void) {
    const size_t engine_sizes[] = {UP_TO(dynamo_engine_t, stop), UP_TO(dynamo_engine_t, kind),
                                   sizeof(dynamo_engine_t), sizeof(dynamo_engine_t) + 32};
    const size_t chunk_sizes[] = {UP_TO(dynamo_chunk_t, logprobs_json), sizeof(dynamo_chunk_t),
                                  sizeof(dynamo_chunk_t) + 24};
    const size_t usage_sizes[] = {UP_TO(dynamo_usage_t, completion_tokens), sizeof(dynamo_usage_t),
                                  sizeof(dynamo_usage_t) + 8};
    for (size_t i = 0; i < 4; ++i) {
        engine_size = engine_sizes[i];
        chunk_size = chunk_sizes[i % 3];
        usage_size = usage_sizes[i % 3];
        dynamo_engine_t *const engine = resized(&old_engine, sizeof old_engine, engine_size);
        CHECK_STATUS(dynamo_engine_register("old", engine, NULL, NULL), DYNAMO_OK);
        free(engine);
        dynamo_runtime_t *const runtime = start("{'engine': 'old'}");
        dynamo_response_t *const response = response_of(runtime);
        const uint64_t cached = usage_size < UP_TO(dynamo_usage_t, cached_tokens) ? 0 : 1;
        for (size_t size = UP_TO(dynamo_usage_t, completion_tokens);
             size <= sizeof(dynamo_usage_t) + 8; size += 8) {
            check_usage(response, size, cached);
        }
        dynamo_free(response);
        dynamo_runtime_destroy(runtime);
        CHECK_STATUS(dynamo_engine_unregister("old"), DYNAMO_OK);
    }
    dynamo_engine_t *const small =
        resized(&old_engine, sizeof old_engine, UP_TO(dynamo_engine_t, stop) - 1);
    CHECK_STATUS(dynamo_engine_register("old", small, NULL, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "engine->struct_size is ");
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_engine_t)");
    free(small);
}

static void pushes_are_an_array_of_structs_of_any_size(void) {
    /* The first size is not a multiple of the alignment, so it is tested with one element only. */
    const size_t sizes[] = {UP_TO(dynamo_push_t, status), sizeof(dynamo_push_t),
                            sizeof(dynamo_push_t) + 40};
    for (size_t i = 0; i < 3; ++i) {
        const size_t size = sizes[i], count = i == 0 ? 1 : 2;
        const dynamo_chunk_t chunk = {.struct_size = sizeof chunk};
        const dynamo_push_t push = {NULL, &chunk, DYNAMO_END};
        unsigned char *const pushes = malloc(count * size + guard_size);
        CHECK(pushes != NULL);
        memset(pushes, guard, count * size + guard_size);
        for (size_t n = 0; n < count; ++n) {
            memcpy(pushes + n * size, &push, UP_TO(dynamo_push_t, status));
        }
        CHECK_STATUS(dynamo_stream_push_many((dynamo_push_t *)(void *)pushes, count, size),
                     DYNAMO_PENDING);
        for (size_t n = 0; n < count; ++n) {
            int32_t status;
            memcpy(&status, pushes + n * size + offsetof(dynamo_push_t, status), sizeof status);
            CHECK_STATUS(status, DYNAMO_ERROR_INVALID_HANDLE);
        }
        CHECK(touched(pushes, count * size) == 0);
        free(pushes);
    }
    CHECK_STATUS(dynamo_stream_push_many(NULL, 0, UP_TO(dynamo_push_t, status) - 1),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "push_size is ");
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_push_t)");
}

/* ------------------------------------------------------------------------- structs that the library fills */

static void timings_of_any_size_are_filled(void) {
    dynamo_runtime_t *const runtime = start_echo();
    dynamo_request_t *const request = sent(runtime, ask("{'prompt': 'x', 'stream': false}"));
    dynamo_response_t *const response = dynamo_request_recv(request);
    const dynamo_timing_t none = {0, -2, -2, -2};
    const size_t first = UP_TO(dynamo_timing_t, total_us);
    for (size_t size = first - 1; size <= sizeof none + 16; size += 1) {
        dynamo_timing_t *const timing = resized(&none, sizeof none, size);
        const int32_t wanted = size < first ? DYNAMO_ERROR_INVALID_ARGUMENT : DYNAMO_OK;
        CHECK_STATUS(dynamo_request_timing(request, timing), wanted);
        CHECK_STATUS(dynamo_response_timing(response, timing), wanted);
        CHECK(timing->struct_size == size && touched(timing, size) == 0);
        CHECK(size < first || timing->total_us >= 0);
        free(timing);
    }
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void events_of_any_size_are_filled(void) {
    dynamo_runtime_t *const runtime = start_echo();
    dynamo_queue_t *const queue = dynamo_queue_create();
    const dynamo_event_t none = {0, NULL, NULL, NULL, DYNAMO_PENDING};
    const size_t first = UP_TO(dynamo_event_t, status);
    for (size_t size = first - 1; size <= sizeof none + 16; size += 1) {
        dynamo_request_t *const request = ask("{'prompt': 'x', 'stream': false}");
        CHECK_STATUS(dynamo_request_set_queue(request, queue, &size), DYNAMO_OK);
        sent(runtime, request);
        if (size < first) {
            dynamo_event_t *const event = resized(&none, sizeof none, size);
            CHECK_STATUS(dynamo_queue_next(queue, -1, event), DYNAMO_ERROR_INVALID_ARGUMENT);
            CHECK(touched(event, size) == 0);
            free(event);
        }
        for (int is_last = 0; !is_last;) {
            const size_t asked = size < first ? first : size;
            dynamo_event_t *const event = resized(&none, sizeof none, asked);
            CHECK_STATUS(dynamo_queue_next(queue, -1, event), DYNAMO_OK);
            CHECK(event->request == request && event->user == &size);
            CHECK(event->struct_size == asked && touched(event, asked) == 0);
            is_last = event->response == NULL;
            CHECK_STATUS(event->status, is_last ? DYNAMO_END : DYNAMO_OK);
            dynamo_free(event->response);
            free(event);
        }
        dynamo_request_destroy(request);
    }
    dynamo_queue_destroy(queue);
    dynamo_runtime_destroy(runtime);
}

static void tool_calls_and_logprobs_of_any_size_are_filled(void) {
    dynamo_runtime_t *const runtime = start_script(
        "[{'delta': {'tool_calls': [{'id': '1', 'function': {'name': 'f', 'arguments': '{}'}}]}},"
        " {'logprobs': {'content': [{'token': 'a', 'logprob': -1, 'top_logprobs': "
        "   [{'token': 'b', 'logprob': -2}]}]}}]");
    dynamo_response_t *const whole = dynamo_runtime_complete(
        runtime, "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", -1);
    CHECK(whole != NULL);
    const dynamo_tool_call_t no_call = {0, NULL, NULL, NULL};
    const size_t first_call = UP_TO(dynamo_tool_call_t, arguments);
    for (size_t size = first_call - 1; size <= sizeof no_call + 16; ++size) {
        dynamo_tool_call_t *const call = resized(&no_call, sizeof no_call, size);
        CHECK_STATUS(dynamo_response_tool_call(whole, 0, call),
                     size < first_call ? DYNAMO_ERROR_INVALID_ARGUMENT : DYNAMO_OK);
        CHECK(call->struct_size == size && touched(call, size) == 0);
        CHECK(size < first_call || strcmp(call->arguments, "{}") == 0);
        free(call);
    }
    const dynamo_logprob_t no_logprob = {0, NULL, 0, 0, 0, 9};
    const size_t first = UP_TO(dynamo_logprob_t, alternative_count);
    for (size_t size = first - 1; size <= sizeof no_logprob + 16; ++size) {
        dynamo_logprob_t *const logprob = resized(&no_logprob, sizeof no_logprob, size);
        const int32_t wanted = size < first ? DYNAMO_ERROR_INVALID_ARGUMENT : DYNAMO_OK;
        CHECK_STATUS(dynamo_response_logprob(whole, 0, logprob), wanted);
        CHECK(size < first || logprob->alternative_count == 1);
        CHECK_STATUS(dynamo_response_alternative(whole, 0, 0, logprob), wanted);
        CHECK(logprob->struct_size == size && touched(logprob, size) == 0);
        CHECK(size < first || logprob->alternative_count == 0);
        free(logprob);
    }
    dynamo_free(whole);
    dynamo_runtime_destroy(runtime);
}

/* ----------------------------------------------------------------------------------------- clusters */

static void routers_take_structs_of_any_size(const char *config) {
    dynamo_router_t *const router = dynamo_router_create(config);
    CHECK(router != NULL);
    const uint32_t prompt[32] = {0};
    const uint64_t two = 2;
    const dynamo_route_options_t options = {.worker_ids = &two, .worker_count = 1};
    const size_t first = UP_TO(dynamo_route_options_t, constraints_json);
    const size_t option_sizes[] = {first - 1, first, sizeof options, sizeof options + 16};
    for (size_t i = 0; i < 4; ++i) {
        dynamo_route_options_t *const other = resized(&options, sizeof options, option_sizes[i]);
        dynamo_selection_t *const selection = dynamo_router_select(router, prompt, 32, other);
        if (i == 0) {
            CHECK(selection == NULL);
            CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_route_options_t)");
        } else {
            CHECK(selection != NULL && selection->worker_id == 2);
        }
        dynamo_free(selection);
        free(other);
    }
    dynamo_selection_t *const chosen = dynamo_router_select(router, prompt, 32, NULL);
    CHECK(chosen != NULL && chosen->struct_size == sizeof *chosen && chosen->token_count == 32);
    const size_t first_selection = UP_TO(dynamo_selection_t, token_count);
    const size_t sizes[] = {first_selection, sizeof *chosen, sizeof *chosen + 16};
    for (size_t i = 0; i < 3; ++i) {
        dynamo_selection_t *const other = resized(chosen, sizeof *chosen, sizes[i]);
        CHECK_STATUS(dynamo_router_reserve(router, "r", other, NULL), DYNAMO_OK);
        CHECK_STATUS(dynamo_router_free(router, "r"), DYNAMO_OK);
        free(other);
    }
    dynamo_selection_t *const small = resized(chosen, sizeof *chosen, first_selection - 1);
    CHECK_STATUS(dynamo_router_reserve(router, "r", small, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_selection_t)");
    free(small);
    dynamo_free(chosen);
    dynamo_router_destroy(router);
}

static void publishers_take_structs_of_any_size(const char *config) {
    dynamo_kv_publisher_t *const publisher = dynamo_kv_publisher_create(config);
    CHECK(publisher != NULL);
    const uint32_t tokens[16] = {0};
    const uint64_t hash = 7;
    const dynamo_kv_stored_t stored = {
        .token_ids = tokens, .token_count = 16, .block_hashes = &hash, .block_count = 1};
    const size_t first = UP_TO(dynamo_kv_stored_t, cache_salt);
    const size_t sizes[] = {first, sizeof stored, sizeof stored + 16};
    for (size_t i = 0; i < 3; ++i) {
        dynamo_kv_stored_t *const other = resized(&stored, sizeof stored, sizes[i]);
        CHECK_STATUS(dynamo_kv_publisher_stored(publisher, other), DYNAMO_OK);
        const size_t event_sizes[] = {UP_TO(dynamo_kv_event_t, removed_count),
                                      sizeof(dynamo_kv_event_t), sizeof(dynamo_kv_event_t) + 16};
        unsigned char *const events = calloc(2, event_sizes[i]);
        const dynamo_kv_event_t event = {DYNAMO_KV_STORED, other, NULL, 0};
        memcpy(events, &event, UP_TO(dynamo_kv_event_t, removed_count));
        memcpy(events + event_sizes[i], &event, UP_TO(dynamo_kv_event_t, removed_count));
        CHECK_STATUS(
            dynamo_kv_publisher_publish_many(
                publisher, (const dynamo_kv_event_t *)(const void *)events, 2, event_sizes[i]),
            DYNAMO_OK);
        free(events);
        free(other);
    }
    dynamo_kv_stored_t *const small = resized(&stored, sizeof stored, first - 1);
    CHECK_STATUS(dynamo_kv_publisher_stored(publisher, small), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_kv_stored_t)");
    free(small);
    CHECK_STATUS(dynamo_kv_publisher_publish_many(publisher, NULL, 0,
                                                  UP_TO(dynamo_kv_event_t, removed_count) - 1),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_kv_event_t)");
    CHECK_STATUS(dynamo_kv_publisher_flush(publisher, 60000), DYNAMO_OK);
    dynamo_kv_publisher_destroy(publisher);
}

static void workers_take_structs_of_any_size(const char *config) {
    dynamo_worker_t *const worker = dynamo_worker_create(config);
    CHECK(worker != NULL);
    const dynamo_worker_load_t load = {0, 0, 1, 2};
    const size_t first = UP_TO(dynamo_worker_load_t, kv_used_blocks);
    const size_t sizes[] = {first, sizeof load, sizeof load + 16};
    for (size_t i = 0; i < 3; ++i) {
        dynamo_worker_load_t *const other = resized(&load, sizeof load, sizes[i]);
        CHECK_STATUS(dynamo_worker_publish_load(worker, other), DYNAMO_OK);
        free(other);
    }
    dynamo_worker_load_t *const small = resized(&load, sizeof load, first - 1);
    CHECK_STATUS(dynamo_worker_publish_load(worker, small), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "; set it to sizeof(dynamo_worker_load_t)");
    free(small);
    dynamo_worker_destroy(worker);
}

int main(int count, char **words) {
    BEGIN();
    if (count == 4) {
        routers_take_structs_of_any_size(words[1]);
        publishers_take_structs_of_any_size(words[2]);
        workers_take_structs_of_any_size(words[3]);
        return 0;
    }
    RUN(engines_bring_structs_of_any_size);
    RUN(pushes_are_an_array_of_structs_of_any_size);
    RUN(timings_of_any_size_are_filled);
    RUN(events_of_any_size_are_filled);
    RUN(tool_calls_and_logprobs_of_any_size_are_filled);
    return 0;
}
