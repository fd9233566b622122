/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_ENGINE_H
#define DYNAMO_LLM_ENGINE_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dynamo_stream_t dynamo_stream_t;

typedef enum dynamo_engine_kind_t {

    DYNAMO_ENGINE_TEXT = 0,

    DYNAMO_ENGINE_TOKENS = 1,

    DYNAMO_ENGINE_DATA = 2
} dynamo_engine_kind_t;

typedef struct dynamo_engine_t {
    size_t struct_size;

    int32_t (*start)(void *user, const char *config_json, void **instance);

    int32_t (*generate)(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json);

    void (*cancel)(void *instance, dynamo_stream_t *stream);

    void (*on_writable)(void *instance, dynamo_stream_t *stream);

    void (*stop)(void *instance);

    int32_t kind;

    const char *(*describe)(void *instance);

    void (*metrics)(void *instance, void (*write)(void *context, const char *lines), void *context);

    int32_t (*generate_data)(void *instance, dynamo_stream_t *stream, const char *request_id,
                             const dynamo_data_t *data);
} dynamo_engine_t;

DYNAMO_LLM_API int32_t dynamo_engine_register(const char *name, const dynamo_engine_t *engine,
                                              void *user, dynamo_release_callback_t release);

DYNAMO_LLM_API int32_t dynamo_engine_unregister(const char *name);

DYNAMO_LLM_API int32_t dynamo_engine_error(int32_t status, const char *message,
                                           const char *detail_json);

typedef struct dynamo_chunk_t {
    size_t struct_size;

    const char *text;

    size_t text_length;

    const uint32_t *token_ids;

    size_t token_count;

    uint32_t index;

    const char *finish_reason;

    const char *delta_json;

    const char *logprobs_json;

    const dynamo_data_t *data;
} dynamo_chunk_t;

DYNAMO_LLM_API int32_t dynamo_stream_push(dynamo_stream_t *stream, const dynamo_chunk_t *chunk);

typedef struct dynamo_push_t {
    dynamo_stream_t *stream;

    const dynamo_chunk_t *chunk;

    int32_t status;
} dynamo_push_t;

DYNAMO_LLM_API int32_t dynamo_stream_push_many(dynamo_push_t *pushes, size_t count,
                                               size_t push_size);

DYNAMO_LLM_API int32_t dynamo_stream_wait(dynamo_stream_t *stream, int64_t timeout_ms);

DYNAMO_LLM_API int32_t dynamo_stream_is_cancelled(dynamo_stream_t *stream);

DYNAMO_LLM_API int32_t dynamo_stream_set_queued(dynamo_stream_t *stream, int32_t is_queued);

DYNAMO_LLM_API int32_t dynamo_stream_remaining(dynamo_stream_t *stream, int64_t *remaining_ms);

DYNAMO_LLM_API int32_t dynamo_stream_finish(dynamo_stream_t *stream, const char *finish_reason,
                                            const dynamo_usage_t *usage);

DYNAMO_LLM_API int32_t dynamo_stream_fail(dynamo_stream_t *stream, int32_t status,
                                          const char *message, const char *detail_json);

DYNAMO_LLM_API void dynamo_log_write(int32_t level, const char *logger, const char *message);

DYNAMO_LLM_API int32_t dynamo_log_level(void);

#ifdef __cplusplus
}
#endif

#endif
