/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_WORKER_H
#define DYNAMO_LLM_WORKER_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dynamo_worker_t dynamo_worker_t;

typedef struct dynamo_worker_load_t {
    size_t struct_size;

    uint32_t data_parallel_rank;

    int64_t active_decode_blocks;

    int64_t kv_used_blocks;
} dynamo_worker_load_t;

DYNAMO_LLM_API dynamo_worker_t *dynamo_worker_create(const char *config_json);

DYNAMO_LLM_API void dynamo_worker_destroy(dynamo_worker_t *worker);

DYNAMO_LLM_API char *dynamo_worker_info(dynamo_worker_t *worker);

DYNAMO_LLM_API int32_t dynamo_worker_shutdown(dynamo_worker_t *worker, int64_t timeout_ms);

DYNAMO_LLM_API int32_t dynamo_worker_wait(dynamo_worker_t *worker, int64_t timeout_ms);

DYNAMO_LLM_API int32_t dynamo_worker_publish_load(dynamo_worker_t *worker,
                                                  const dynamo_worker_load_t *load);

#ifdef __cplusplus
}
#endif

#endif
