/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_ROUTER_H
#define DYNAMO_LLM_ROUTER_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

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

    const uint64_t *worker_ids;

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

    uint32_t data_parallel_rank;

    uint32_t overlap_blocks;

    uint64_t prefill_worker_id;

    uint32_t prefill_data_parallel_rank;

    uint32_t prefill_overlap_blocks;

    const char *address;

    const char *prefill_address;

    const uint32_t *token_ids;

    size_t token_count;
} dynamo_selection_t;

DYNAMO_LLM_API dynamo_router_t *dynamo_router_create(const char *config_json);

DYNAMO_LLM_API void dynamo_router_destroy(dynamo_router_t *router);

DYNAMO_LLM_API char *dynamo_router_info(dynamo_router_t *router);

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
