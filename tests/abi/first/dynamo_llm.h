/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_H
#define DYNAMO_LLM_H

#include <stddef.h>
#include <stdint.h>

#if defined(DYNAMO_LLM_STATIC) || defined(SWIG)
#define DYNAMO_LLM_API
#elif defined(_WIN32)
#if defined(DYNAMO_LLM_BUILD)
#define DYNAMO_LLM_API __declspec(dllexport)
#else
#define DYNAMO_LLM_API __declspec(dllimport)
#endif
#else
#define DYNAMO_LLM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DYNAMO_LLM_VERSION_MAJOR 1

#define DYNAMO_LLM_VERSION_MINOR 0

#define DYNAMO_LLM_VERSION_PATCH 0

#define DYNAMO_LLM_VERSION_STRING "1.0.0"

#define DYNAMO_LLM_ABI_VERSION 1

DYNAMO_LLM_API uint32_t dynamo_abi_version(void);

DYNAMO_LLM_API const char *dynamo_version_string(void);

DYNAMO_LLM_API int32_t dynamo_version_check(uint32_t header_abi, const char *header_version);

#define DYNAMO_LLM_VERSION_CHECK() \
    dynamo_version_check(DYNAMO_LLM_ABI_VERSION, DYNAMO_LLM_VERSION_STRING)

typedef enum dynamo_status_t {

    DYNAMO_OK = 0,

    DYNAMO_END = 1,

    DYNAMO_PENDING = 2,

    DYNAMO_ERROR_INVALID_ARGUMENT = -1,

    DYNAMO_ERROR_INVALID_HANDLE = -2,

    DYNAMO_ERROR_INVALID_STATE = -3,

    DYNAMO_ERROR_INVALID_JSON = -4,

    DYNAMO_ERROR_INVALID_CONFIG = -5,

    DYNAMO_ERROR_INVALID_REQUEST = -6,

    DYNAMO_ERROR_ENGINE_NOT_FOUND = -7,

    DYNAMO_ERROR_ENGINE_UNAVAILABLE = -8,

    DYNAMO_ERROR_MODEL_NOT_FOUND = -9,

    DYNAMO_ERROR_PYTHON_UNAVAILABLE = -10,

    DYNAMO_ERROR_ENGINE_FAILED = -11,

    DYNAMO_ERROR_CANCELLED = -12,

    DYNAMO_ERROR_DEADLINE_EXCEEDED = -13,

    DYNAMO_ERROR_OVERLOADED = -14,

    DYNAMO_ERROR_UNAVAILABLE = -15,

    DYNAMO_ERROR_SLOW_CONSUMER = -16,

    DYNAMO_ERROR_CONTEXT_LENGTH = -17,

    DYNAMO_ERROR_CLOSED = -18,

    DYNAMO_ERROR_FORKED = -19,

    DYNAMO_ERROR_OUT_OF_MEMORY = -20,

    DYNAMO_ERROR_NOT_SUPPORTED = -21,

    DYNAMO_ERROR_VERSION_MISMATCH = -22,

    DYNAMO_ERROR_SYSTEM = -23,

    DYNAMO_ERROR_INTERNAL = -24
} dynamo_status_t;

DYNAMO_LLM_API const char *dynamo_status_name(int32_t status);

DYNAMO_LLM_API int32_t dynamo_last_status(void);

DYNAMO_LLM_API const char *dynamo_last_error(void);

DYNAMO_LLM_API const char *dynamo_last_error_json(void);

DYNAMO_LLM_API void dynamo_free(void *pointer);

typedef void (*dynamo_release_callback_t)(void *user);

typedef enum dynamo_log_level_t {
    DYNAMO_LOG_TRACE = 0,
    DYNAMO_LOG_DEBUG = 1,
    DYNAMO_LOG_INFO = 2,
    DYNAMO_LOG_WARNING = 3,
    DYNAMO_LOG_ERROR = 4,
    DYNAMO_LOG_OFF = 5
} dynamo_log_level_t;

typedef void (*dynamo_log_callback_t)(void *user, int32_t level, const char *logger,
                                      const char *message);

DYNAMO_LLM_API int32_t dynamo_log_set_callback(int32_t level, dynamo_log_callback_t callback,
                                               void *user, dynamo_release_callback_t release);

typedef struct dynamo_runtime_t dynamo_runtime_t;

DYNAMO_LLM_API dynamo_runtime_t *dynamo_runtime_create(const char *config_json);

DYNAMO_LLM_API void dynamo_runtime_destroy(dynamo_runtime_t *runtime);

DYNAMO_LLM_API int32_t dynamo_runtime_shutdown(dynamo_runtime_t *runtime, int64_t timeout_ms);

DYNAMO_LLM_API char *dynamo_runtime_statistics(dynamo_runtime_t *runtime);

DYNAMO_LLM_API char *dynamo_runtime_models(dynamo_runtime_t *runtime);

DYNAMO_LLM_API char *dynamo_runtime_metrics(dynamo_runtime_t *runtime);

DYNAMO_LLM_API const char *dynamo_config_schema(void);

typedef struct dynamo_request_t dynamo_request_t;

typedef struct dynamo_response_t dynamo_response_t;

DYNAMO_LLM_API dynamo_request_t *dynamo_request_create(const char *request_json);

typedef enum dynamo_data_kind_t {

    DYNAMO_DATA_JSON = 1,

    DYNAMO_DATA_BYTES = 2
} dynamo_data_kind_t;

typedef struct dynamo_data_t {
    const void *bytes;

    size_t length;

    int32_t kind;
} dynamo_data_t;

DYNAMO_LLM_API dynamo_request_t *dynamo_request_create_data(int32_t kind, const void *data,
                                                            size_t length);

DYNAMO_LLM_API int32_t dynamo_request_set_deadlines(dynamo_request_t *request,
                                                    int64_t first_token_ms, int64_t total_ms);

typedef void (*dynamo_response_callback_t)(void *user, dynamo_request_t *request,
                                           dynamo_response_t *response, int32_t status);

DYNAMO_LLM_API int32_t dynamo_request_set_callback(dynamo_request_t *request,
                                                   dynamo_response_callback_t callback, void *user,
                                                   dynamo_release_callback_t release);

DYNAMO_LLM_API int32_t dynamo_request_send(dynamo_runtime_t *runtime, dynamo_request_t *request);

DYNAMO_LLM_API dynamo_response_t *dynamo_request_recv(dynamo_request_t *request);

DYNAMO_LLM_API int32_t dynamo_request_next(dynamo_request_t *request, int64_t timeout_ms,
                                           dynamo_response_t **out);

DYNAMO_LLM_API int32_t dynamo_request_cancel(dynamo_request_t *request);

DYNAMO_LLM_API int dynamo_request_fd(dynamo_request_t *request);

typedef void (*dynamo_ready_callback_t)(void *user);

DYNAMO_LLM_API int32_t dynamo_request_notify(dynamo_request_t *request,
                                             dynamo_ready_callback_t callback, void *user);

DYNAMO_LLM_API int32_t dynamo_request_status(dynamo_request_t *request);

DYNAMO_LLM_API const char *dynamo_request_error(dynamo_request_t *request);

DYNAMO_LLM_API const char *dynamo_request_error_json(dynamo_request_t *request);

DYNAMO_LLM_API const char *dynamo_request_id(dynamo_request_t *request);

typedef struct dynamo_timing_t {
    size_t struct_size;

    int64_t queue_us;

    int64_t first_token_us;

    int64_t total_us;
} dynamo_timing_t;

DYNAMO_LLM_API int32_t dynamo_request_timing(dynamo_request_t *request, dynamo_timing_t *timing);

typedef struct dynamo_queue_t dynamo_queue_t;

DYNAMO_LLM_API int32_t dynamo_request_set_queue(dynamo_request_t *request, dynamo_queue_t *queue,
                                                void *user);

DYNAMO_LLM_API void dynamo_request_destroy(dynamo_request_t *request);

typedef struct dynamo_usage_t {
    size_t struct_size;

    uint64_t prompt_tokens;

    uint64_t completion_tokens;

    uint64_t cached_tokens;
} dynamo_usage_t;

DYNAMO_LLM_API const char *dynamo_response_text(const dynamo_response_t *response, size_t *length);

DYNAMO_LLM_API const uint32_t *dynamo_response_token_ids(const dynamo_response_t *response,
                                                         size_t *count);

DYNAMO_LLM_API uint32_t dynamo_response_index(const dynamo_response_t *response);

DYNAMO_LLM_API const char *dynamo_response_finish_reason(const dynamo_response_t *response);

DYNAMO_LLM_API int32_t dynamo_response_usage(const dynamo_response_t *response,
                                             dynamo_usage_t *usage);

DYNAMO_LLM_API int32_t dynamo_response_timing(const dynamo_response_t *response,
                                              dynamo_timing_t *timing);

DYNAMO_LLM_API const char *dynamo_response_json(dynamo_response_t *response);

DYNAMO_LLM_API size_t dynamo_response_item_count(const dynamo_response_t *response);

DYNAMO_LLM_API int32_t dynamo_response_item(const dynamo_response_t *response, size_t index,
                                            dynamo_data_t *item);

typedef struct dynamo_event_t {
    size_t struct_size;

    dynamo_request_t *request;

    void *user;

    dynamo_response_t *response;

    int32_t status;
} dynamo_event_t;

DYNAMO_LLM_API dynamo_queue_t *dynamo_queue_create(void);

DYNAMO_LLM_API int32_t dynamo_queue_next(dynamo_queue_t *queue, int64_t timeout_ms,
                                         dynamo_event_t *event);

DYNAMO_LLM_API void dynamo_queue_destroy(dynamo_queue_t *queue);

typedef struct dynamo_tokenizer_t dynamo_tokenizer_t;

typedef struct dynamo_detokenizer_t dynamo_detokenizer_t;

DYNAMO_LLM_API dynamo_tokenizer_t *dynamo_tokenizer_create(const char *config_json);

DYNAMO_LLM_API void dynamo_tokenizer_destroy(dynamo_tokenizer_t *tokenizer);

DYNAMO_LLM_API char *dynamo_tokenizer_info(dynamo_tokenizer_t *tokenizer);

DYNAMO_LLM_API int32_t dynamo_tokenizer_encode(dynamo_tokenizer_t *tokenizer, const char *text,
                                               size_t length, int32_t add_special_tokens,
                                               uint32_t **ids, size_t *count);

DYNAMO_LLM_API char *dynamo_tokenizer_decode(dynamo_tokenizer_t *tokenizer, const uint32_t *ids,
                                             size_t count, int32_t skip_special_tokens,
                                             size_t *length);

DYNAMO_LLM_API char *dynamo_tokenizer_apply_template(dynamo_tokenizer_t *tokenizer,
                                                     const char *chat_json, size_t *length);

DYNAMO_LLM_API dynamo_detokenizer_t *dynamo_detokenizer_create(dynamo_tokenizer_t *tokenizer,
                                                               int32_t skip_special_tokens);

DYNAMO_LLM_API char *dynamo_detokenizer_add(dynamo_detokenizer_t *detokenizer, const uint32_t *ids,
                                            size_t count, size_t *length);

DYNAMO_LLM_API char *dynamo_detokenizer_finish(dynamo_detokenizer_t *detokenizer, size_t *length);

DYNAMO_LLM_API void dynamo_detokenizer_destroy(dynamo_detokenizer_t *detokenizer);

#ifdef __cplusplus
}
#endif

#endif
