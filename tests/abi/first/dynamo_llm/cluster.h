/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_CLUSTER_H
#define DYNAMO_LLM_CLUSTER_H

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

typedef struct dynamo_kv_publisher_t dynamo_kv_publisher_t;

typedef enum dynamo_kv_event_kind_t {

    DYNAMO_KV_STORED = 1,

    DYNAMO_KV_REMOVED = 2,

    DYNAMO_KV_CLEARED = 3
} dynamo_kv_event_kind_t;

typedef struct dynamo_kv_stored_t {
    size_t struct_size;

    const uint32_t *token_ids;

    size_t token_count;

    const uint64_t *block_hashes;

    size_t block_count;

    uint32_t tokens_per_block;

    int32_t has_parent;

    uint64_t parent_hash;

    const char *lora_name;

    const char *cache_salt;
} dynamo_kv_stored_t;

typedef struct dynamo_kv_event_t {
    int32_t kind;

    const dynamo_kv_stored_t *stored;

    const uint64_t *removed;

    size_t removed_count;
} dynamo_kv_event_t;

typedef struct dynamo_kv_statistics_t {
    size_t struct_size;

    uint64_t published_events;

    uint64_t queued_events;

    uint64_t queued_blocks;

    uint64_t failed_events;

    uint64_t stored_blocks;
} dynamo_kv_statistics_t;

DYNAMO_LLM_API dynamo_kv_publisher_t *dynamo_kv_publisher_create(const char *config_json);

DYNAMO_LLM_API void dynamo_kv_publisher_destroy(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API char *dynamo_kv_publisher_info(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_stored(dynamo_kv_publisher_t *publisher,
                                                  const dynamo_kv_stored_t *stored);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_removed(dynamo_kv_publisher_t *publisher,
                                                   const uint64_t *block_hashes, size_t count);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_cleared(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_publish_many(dynamo_kv_publisher_t *publisher,
                                                        const dynamo_kv_event_t *events,
                                                        size_t count, size_t event_size);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_flush(dynamo_kv_publisher_t *publisher,
                                                 int64_t timeout_ms);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_statistics(dynamo_kv_publisher_t *publisher,
                                                      dynamo_kv_statistics_t *statistics);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_hashes(dynamo_kv_publisher_t *publisher,
                                                  const uint32_t *token_ids, size_t count,
                                                  const char *lora_name, const char *cache_salt,
                                                  uint64_t **hashes, size_t *hash_count);

typedef struct dynamo_router_t dynamo_router_t;

typedef enum dynamo_route_phase_t {

    DYNAMO_ROUTE_ALL = 0,

    DYNAMO_ROUTE_PREFILL = 1,

    DYNAMO_ROUTE_DECODE = 2
} dynamo_route_phase_t;

typedef struct dynamo_route_options_t {
    size_t struct_size;

    int32_t phase;

    uint32_t strict_priority;

    const char *request_id;

    const uint64_t *workers;

    size_t worker_count;

    const char *lora_name;

    const char *cache_salt;

    double priority_jump;

    uint64_t expected_output_tokens;

    const char *constraints_json;
} dynamo_route_options_t;

typedef struct dynamo_selection_t {
    size_t struct_size;

    int32_t has_worker;

    int32_t has_prefill_worker;

    uint64_t worker_id;

    uint32_t dp_rank;

    uint32_t overlap_blocks;

    uint64_t prefill_worker_id;

    uint32_t prefill_dp_rank;

    uint32_t prefill_overlap_blocks;

    const char *address;

    const char *prefill_address;

    const uint32_t *token_ids;

    size_t token_count;
} dynamo_selection_t;

DYNAMO_LLM_API dynamo_router_t *dynamo_router_create(const char *config_json);

DYNAMO_LLM_API void dynamo_router_destroy(dynamo_router_t *router);

DYNAMO_LLM_API const char *dynamo_router_info(dynamo_router_t *router);

DYNAMO_LLM_API dynamo_selection_t *dynamo_router_select(dynamo_router_t *router,
                                                        const uint32_t *token_ids, size_t count,
                                                        const dynamo_route_options_t *options);

DYNAMO_LLM_API dynamo_selection_t *dynamo_router_select_body(dynamo_router_t *router,
                                                             const char *request_json,
                                                             const dynamo_route_options_t *options);

DYNAMO_LLM_API int32_t dynamo_router_reserve(dynamo_router_t *router, const char *request_id,
                                             const dynamo_selection_t *selection,
                                             const dynamo_route_options_t *options);

DYNAMO_LLM_API int32_t dynamo_router_prefill_complete(dynamo_router_t *router,
                                                      const char *request_id);

DYNAMO_LLM_API int32_t dynamo_router_output_block(dynamo_router_t *router, const char *request_id,
                                                  double decay);

DYNAMO_LLM_API int32_t dynamo_router_free(dynamo_router_t *router, const char *request_id);

DYNAMO_LLM_API char *dynamo_router_loads(dynamo_router_t *router, const uint32_t *token_ids,
                                         size_t count, const dynamo_route_options_t *options);

DYNAMO_LLM_API char *dynamo_router_overlaps(dynamo_router_t *router, const uint32_t *token_ids,
                                            size_t count, const dynamo_route_options_t *options);

DYNAMO_LLM_API char *dynamo_router_workers(dynamo_router_t *router);

DYNAMO_LLM_API int32_t dynamo_router_upsert_worker(dynamo_router_t *router,
                                                   const char *worker_json);

DYNAMO_LLM_API int32_t dynamo_router_delete_worker(dynamo_router_t *router, uint64_t worker_id);

#ifdef __cplusplus
}
#endif

#endif
