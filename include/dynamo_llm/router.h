/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/router.h
 * @brief Routers: select the workers of a request, for gateways that send requests themselves.
 *
 * A gateway selects a worker for a request, reserves it, and releases the reservation when the answer has ended, so
 * that the next selection takes the load of the workers into account. docs/router.md explains more.
 *
 * The rules of dynamo_llm.h hold here, too. Python does the work, with the extra `dynamo`. A function that
 * waits for it does so without the GIL. Many threads may use one router at the same time. A call then takes longer,
 * because one event loop executes the calls of all threads; docs/performance.md has measurements.
 */
#ifndef DYNAMO_LLM_ROUTER_H
#define DYNAMO_LLM_ROUTER_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name Routers */
/** @{ */

/** Selects workers for requests. Opaque. */
typedef struct dynamo_router_t dynamo_router_t;

/** Which worker of a request to select. */
typedef enum dynamo_route_phase_t {
    /** Every worker that the request needs: both, in the mode "disaggregated". */
    DYNAMO_ROUTE_ALL = 0,
    /** The worker that computes the prompt (prefill). */
    DYNAMO_ROUTE_PREFILL = 1,
    /** The worker that generates the answer (decode). */
    DYNAMO_ROUTE_DECODE = 2
} dynamo_route_phase_t;

/** How to select workers. Zero the struct, then set the members that apply. */
typedef struct dynamo_route_options_t {
    /** sizeof(dynamo_route_options_t) when the program was built. */
    size_t struct_size;
    /** A dynamo_route_phase_t. */
    int32_t phase;
    /** Strict priority among queued requests: higher values are always scheduled first. */
    uint32_t strict_priority;
    /** If set, the request is reserved on the selected workers under this id, as by dynamo_router_reserve(). */
    const char *request_id;
    /** Ids of the workers that may be selected; NULL for all. */
    const uint64_t *worker_ids;
    /** Their number; 0 for all. */
    size_t worker_count;
    /** LoRA adapter of the request; NULL if none. */
    const char *lora_name;
    /** Cache salt of the request; NULL for none, or that in the body's "nvext". */
    const char *cache_salt;
    /** Seconds by which the request moves ahead in the queue. */
    double priority_jump;
    /** Maximum number of tokens of the answer; 0 if not known. */
    uint64_t expected_output_tokens;
    /** JSON object: {"required_taints": ["gpu=h100"], "preferred_taints": {"zone=a": 0.5}}: taints that a worker must
     * have, and taints that are preferred, or avoided if their weight is negative. NULL if none. */
    const char *constraints_json;
} dynamo_route_options_t;

/** The selected workers of a request. */
typedef struct dynamo_selection_t {
    /** sizeof(dynamo_selection_t) when the library was built. */
    size_t struct_size;
    /** 1 if there is a worker that generates the answer, in the members without a prefix. */
    int32_t has_worker;
    /** 1 if another worker computes the prompt, in the members with the prefix "prefill_". */
    int32_t has_prefill_worker;
    /** Id of the worker: in a cluster, its instance id. */
    uint64_t worker_id;
    /** Its data parallel rank. */
    uint32_t data_parallel_rank;
    /** Number of blocks of the prompt that it has. */
    uint32_t overlap_blocks;
    /** Id of the worker that computes the prompt. */
    uint64_t prefill_worker_id;
    /** Its data parallel rank. */
    uint32_t prefill_data_parallel_rank;
    /** Number of blocks of the prompt that it has. */
    uint32_t prefill_overlap_blocks;
    /** Where the worker serves, as reported by the discovery or by dynamo_router_upsert_worker(); NULL if not known. */
    const char *address;
    /** Where the worker that computes the prompt serves. */
    const char *prefill_address;
    /** The prompt. */
    const uint32_t *token_ids;
    /** Its length in tokens. */
    size_t token_count;
} dynamo_selection_t;

/**
 * Creates a router, over the workers of a cluster (cluster router), or over workers that the caller registers (static
 * router).
 *
 * @param config_json  a JSON object:
 *                     "cluster"              the cluster, as for dynamo_runtime_create(); without it the router is a
 *                                            static router, which needs no servers;
 *                     "endpoint"             with a cluster: path of the workers that generate answers;
 *                     "mode"                 "aggregated" (default), or "disaggregated": other workers compute the
 *                                            prompts;
 *                     "prefill_endpoint"     with a cluster and "disaggregated": path of those workers;
 *                     "kv_block_size"        tokens per KV block; with a cluster the default is that of the workers'
 *                                            model, and the call then waits for a worker;
 *                     "workers"              static router: an array of workers, each as for
 *                                            dynamo_router_upsert_worker();
 *                     "options"              settings of NVIDIA Dynamo's router: keywords of KvRouterConfig, or, for a
 *                                            static router, of SelectionService;
 *                     "model"                folder with the tokenizer and chat template for bodies; with a cluster
 *                                            the default is that of the workers' model;
 *                     "wait_for_workers_ms"  how long to wait for a worker, default 10000;
 *                     "python", "trust_request_chat_template", "templates"
 *                                            as for dynamo_runtime_create().
 * Blocking:  until the cluster is joined, as dynamo_tokenizer_create().
 * @return the router, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, UNAVAILABLE (the cluster's servers, or
 *         no worker in time), MODEL_NOT_FOUND, PYTHON_UNAVAILABLE, ENGINE_UNAVAILABLE (a Python package is missing),
 *         ENGINE_FAILED, VERSION_MISMATCH, CLOSED, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_router_t *dynamo_router_create(const char *config_json);

/**
 * Releases a router. Its reservations are dropped.
 * Blocking: until it has left the cluster, at most 10 seconds.
 */
DYNAMO_LLM_API void dynamo_router_destroy(dynamo_router_t *router);

/**
 * Returns the properties of a router as a JSON object:
 *
 *     {"mode": "aggregated", "kv_block_size": 16, "endpoint": "dynamo.backend.generate"}
 *
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_router_info(dynamo_router_t *router);

/**
 * Selects workers for a prompt of token ids.
 *
 * @param token_ids  the prompt; may be NULL if count is 0
 * @param count      its length in tokens
 * @param options    NULL for the defaults: all workers, no reservation
 * Ownership: one dynamo_free() of the result also frees everything that it points to.
 * Blocking:  until they are selected.
 * @return the workers, or NULL: INVALID_HANDLE, INVALID_ARGUMENT (also a request_id that is already reserved),
 *         UNAVAILABLE (no worker that may be selected is available), OVERLOADED (too many requests are queued),
 *         NOT_SUPPORTED, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_selection_t *dynamo_router_select(dynamo_router_t *router,
                                                        const uint32_t *token_ids, size_t count,
                                                        const dynamo_route_options_t *options);

/**
 * Selects workers for an OpenAI body: a chat, which the model's template and tokenizer convert, or a completion. These
 * keys of its "nvext" are used: "agent_hints" (priority, strict_priority, osl), "cache_salt", and
 * "routing_constraints". The result has the token ids of the prompt, so the worker need not compute them again.
 *
 * @param request_json  as for dynamo_request_create()
 * @param options       as for dynamo_router_select()
 * Ownership: as for dynamo_router_select().
 * Blocking:  until they are selected.
 * @return as dynamo_router_select(), and INVALID_JSON, INVALID_REQUEST, MODEL_NOT_FOUND (the model's files are not on
 *         this machine)
 */
DYNAMO_LLM_API dynamo_selection_t *dynamo_router_select_body(dynamo_router_t *router,
                                                             const char *request_json,
                                                             const dynamo_route_options_t *options);

/**
 * Reserves the workers of a selection for a request: from now on, all selections of this router count the request as
 * their load. The selection may be one that the caller made itself.
 *
 * @param request_id  any text that is not reserved yet
 * @param selection   workers and prompt; struct_size must be set
 * @param options     lora_name and cache_salt of the request are used; may be NULL
 * Blocking: until they are reserved.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (reserved already, or no such worker), NOT_SUPPORTED, CLOSED,
 *         ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_router_reserve(dynamo_router_t *router, const char *request_id,
                                             const dynamo_selection_t *selection,
                                             const dynamo_route_options_t *options);

/**
 * Reports that the first token of a reserved request has arrived: its prompt is computed, and a worker that only
 * computes prompts has finished with it.
 * Blocking: until it is recorded.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (no such request), CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_router_prefill_complete(dynamo_router_t *router,
                                                      const char *request_id);

/**
 * Reports that the answer of a reserved request has filled one more KV block.
 * @param decay  weight in [0, 1], from now on, of the blocks used by this request only; 1 unless its end is near
 * Blocking: until it is recorded.
 * @return as dynamo_router_prefill_complete()
 */
DYNAMO_LLM_API int32_t dynamo_router_output_block(dynamo_router_t *router, const char *request_id,
                                                  double decay);

/**
 * Releases the reservation of a request. Call this however the request ended.
 * Blocking: until it is recorded.
 * @return as dynamo_router_prefill_complete()
 */
DYNAMO_LLM_API int32_t dynamo_router_free(dynamo_router_t *router, const char *request_id);

/**
 * Returns the load that each worker would have if it got a prompt; for an empty prompt, its present load:
 *
 *     [{"worker_id": 1, "data_parallel_rank": 0, "potential_prefill_tokens": 64,
 *       "potential_decode_blocks": 4, "active_requests": 1}, ...]
 *
 * @param token_ids  the prompt; may be NULL if count is 0
 * @param count      its length in tokens
 * @param options    phase, lora_name, and cache_salt are used; may be NULL
 * Blocking:  until the answer has arrived.
 * @return the text, or NULL: as dynamo_router_select()
 */
DYNAMO_LLM_API char *dynamo_router_loads(dynamo_router_t *router, const uint32_t *token_ids,
                                         size_t count, const dynamo_route_options_t *options);

/**
 * Returns how many KV blocks of a prompt each worker has:
 *
 *     [{"worker_id": 1, "data_parallel_rank": 0, "device_blocks": 4,
 *       "host_pinned_extension_blocks": 0, "disk_extension_blocks": 0, ...}, ...]
 *
 * @param token_ids  the prompt; may be NULL if count is 0
 * @param count      its length in tokens
 * @param options    phase, lora_name, and cache_salt are used; may be NULL
 * Blocking:  until the answer has arrived.
 * @return the text, or NULL: as dynamo_router_select()
 */
DYNAMO_LLM_API char *dynamo_router_overlaps(dynamo_router_t *router, const uint32_t *token_ids,
                                            size_t count, const dynamo_route_options_t *options);

/**
 * Returns the live workers:
 *
 *     [{"worker_id": 1, "phase": "aggregated", "address": "127.0.0.1:40123/..."}, ...]
 *
 * For a static router, each also has the keys with which it was registered.
 * Blocking:  until the answer has arrived.
 * @return the text, or NULL: INVALID_HANDLE, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_router_workers(dynamo_router_t *router);

/**
 * Adds a worker to a static router, or changes one.
 *
 * @param worker_json  a JSON object:
 *                     "worker_id"               an unsigned 64-bit number;
 *                     "endpoint"                where it serves; returned as the address;
 *                     "kv_events_endpoint"      where its engine publishes KV events with ZMQ, such as
 *                                               "tcp://10.0.0.7:5557"; nothing has to listen there yet;
 *                     "kv_events_endpoints"     the same for each rank: {"0": "tcp://...", ...};
 *                     "phase"                   "aggregated" or "decode" (generates answers), or "prefill";
 *                     "block_size"              default: the router's;
 *                     "data_parallel_start_rank", "data_parallel_size", "max_num_batched_tokens",
 *                     "total_kv_blocks", "taints", and the other keys of Dynamo's worker record.
 * Blocking: until it may be selected.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_JSON, INVALID_ARGUMENT, NOT_SUPPORTED (a cluster router), CLOSED,
 *         ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_router_upsert_worker(dynamo_router_t *router,
                                                   const char *worker_json);

/**
 * Removes a worker from a static router.
 * Blocking: until it can no longer be selected.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (no such worker), NOT_SUPPORTED (a cluster router), CLOSED,
 *         ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_router_delete_worker(dynamo_router_t *router, uint64_t worker_id);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_ROUTER_H */
