/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/cluster.h
 * @brief The library in a cluster of NVIDIA Dynamo: workers, KV events, and routers for gateways.
 *
 * To send requests to a cluster takes none of this: dynamo_runtime_create() with the engine "dynamo" does
 * that. This header is for programs that serve models to a cluster, and for those that route requests
 * themselves.
 *
 * The rules of dynamo_llm.h hold here too. What these functions do is done in Python, with the package
 * dynamo-llm[dynamo]; a function that waits for it says so under "Blocking".
 */
#ifndef DYNAMO_LLM_CLUSTER_H
#define DYNAMO_LLM_CLUSTER_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------- */
/** @name Workers
 * A worker serves an engine of this library, also one in C, to a cluster: as a model that clients and
 * frontends find by its name, or as an endpoint of data. docs/worker.md has more. */
/** @{ */

/** An engine that is served to a cluster. Opaque. */
typedef struct dynamo_worker_t dynamo_worker_t;

/** What a data parallel rank of a worker has to do: routers look at it. Zero the struct, then set what
 * there is. */
typedef struct dynamo_worker_load_t {
    /** sizeof(dynamo_worker_load_t) as the program was built. */
    size_t struct_size;
    /** The rank, from 0. */
    uint32_t data_parallel_rank;
    /** KV blocks of the requests in decode; -1 if not known. */
    int64_t active_decode_blocks;
    /** KV blocks in use, all together; -1 if not known. */
    int64_t kv_used_blocks;
} dynamo_worker_load_t;

/**
 * Starts an engine and serves it to a cluster.
 *
 * @param config_json  a JSON object:
 *                     "endpoint"  path to serve: "namespace.component.endpoint", or without the
 *                                 namespace, which is the cluster's then;
 *                     "runtime"   the engine and its model: a configuration as for
 *                                 dynamo_runtime_create(), with any engine of this process;
 *                     "cluster"   optional: the cluster, as for the engine "dynamo";
 *                     "model"     what the cluster is told: {"name": what requests give as "model",
 *                                 "kv_block_size": tokens, "user_data": {...}, ...}; docs/worker.md has
 *                                 all keys. An engine of data (DYNAMO_ENGINE_DATA) has none;
 *                     "drain_ms"  optional: how long requests in flight may take when the worker stops
 *                                 by itself, default 30000;
 *                     "health"    optional: see docs/worker.md;
 *                     "python"    as for dynamo_runtime_create().
 * Ownership: the caller owns the result; dynamo_worker_destroy() it.
 * Blocking:  until the model is loaded and the worker is registered, as dynamo_runtime_create().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the worker, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, UNAVAILABLE (the
 *         cluster's servers), and all of dynamo_runtime_create()
 */
DYNAMO_LLM_API dynamo_worker_t *dynamo_worker_create(const char *config_json);

/**
 * Gives a worker up. NULL is fine. Unless it was shut down, it leaves the cluster and cancels what is in
 * flight; a thread in dynamo_worker_wait() gets DYNAMO_END.
 * Blocking: until it has left the cluster, at most 10 seconds; not at all while another thread is inside a
 * call for it, which then gives it up.
 * Contract: any thread; may block; not from log callbacks; takes its argument.
 */
DYNAMO_LLM_API void dynamo_worker_destroy(dynamo_worker_t *worker);

/**
 * What there is to know of a worker at present, as a JSON object:
 *
 *     {"state": "serving" | "draining" | "lost" | "stopped", "kind": "tokens" | "text" | "data",
 *      "endpoint": "dynamo.backend.generate", "instance_id": 7587895338934311, "model": its name,
 *      "in_flight": requests, "served": requests that ended well, "failed": others,
 *      "healthy": boolean, "problem": what is wrong, or null}
 *
 * "lost": the cluster's discovery is not reachable; the worker registers again when it is. instance_id is
 * null once it has stopped; model is null for an engine of data.
 * Ownership: the caller owns the string; dynamo_free() it.
 * Blocking:  until Python has answered: as a rule less than a millisecond.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_worker_info(dynamo_worker_t *worker);

/**
 * Leaves the cluster: no new requests come, those in flight go on to their end, and what is left when the
 * time is up is cancelled, with an error for its caller. Calling it again is fine.
 *
 * @param timeout_ms  milliseconds to wait for requests in flight; -1 for ever, 0 cancels at once
 * Blocking: up to timeout_ms, and what leaving takes.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK: all ended by themselves; DEADLINE_EXCEEDED: some were cancelled; INVALID_HANDLE,
 *         INVALID_ARGUMENT, CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_worker_shutdown(dynamo_worker_t *worker, int64_t timeout_ms);

/**
 * Waits until the worker has stopped: because another thread shut it down or destroyed it.
 *
 * @param timeout_ms  milliseconds to wait; -1 for ever, 0 to look
 * Blocking: up to timeout_ms.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_END (it has stopped), DYNAMO_PENDING, INVALID_HANDLE, INVALID_ARGUMENT, CLOSED,
 *         ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_worker_wait(dynamo_worker_t *worker, int64_t timeout_ms);

/**
 * Tells routers what a worker has to do. An engine's step may say so itself: this copies, and does not
 * wait; of several reports of one rank the latest counts. What could not be sent is logged.
 *
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_worker_publish_load(dynamo_worker_t *worker,
                                                  const dynamo_worker_load_t *load);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Events
 * A router that knows which KV blocks a worker has sends it the prompts that begin with them. The
 * engine says what it stores and what it drops; an engine's step may do so itself: nothing here takes
 * Python's GIL or waits, except what says so. docs/kv-events.md has more. */
/** @{ */

/** Tells routers which KV blocks a worker has. Opaque. */
typedef struct dynamo_kv_publisher_t dynamo_kv_publisher_t;

/** What happened to KV blocks. */
typedef enum dynamo_kv_event_kind_t {
    /** Blocks were computed: `stored`. */
    DYNAMO_KV_STORED = 1,
    /** Blocks were dropped: `removed`. */
    DYNAMO_KV_REMOVED = 2,
    /** All blocks were dropped. */
    DYNAMO_KV_CLEARED = 3
} dynamo_kv_event_kind_t;

/** Blocks that were computed, one after the other. Zero the struct, then set what there is. */
typedef struct dynamo_kv_stored_t {
    /** sizeof(dynamo_kv_stored_t) as the program was built. */
    size_t struct_size;
    /** Tokens of the blocks, together. */
    const uint32_t *token_ids;
    /** Their number: block_count times the tokens of a block. Blocks that are not full are not stored. */
    size_t token_count;
    /** A hash for each block. It must be a function of everything up to the end of the block, and the
     * same function on all workers: the engine's own, or that of dynamo_kv_publisher_hashes(). */
    const uint64_t *block_hashes;
    /** Their number. */
    size_t block_count;
    /** Tokens of a block, as the engine has them; 0 for the publisher's. Another number is an error. */
    uint32_t tokens_per_block;
    /** 1: the first block follows the one with parent_hash; 0: it begins a prompt. */
    int32_t has_parent;
    /** Hash of the block before the first one. */
    uint64_t parent_hash;
    /** LoRA adapter that they are computed with; NULL if none. */
    const char *lora_name;
    /** Requests share blocks only if they have the same one; NULL if none. */
    const char *cache_salt;
} dynamo_kv_stored_t;

/** One event of several. */
typedef struct dynamo_kv_event_t {
    /** A dynamo_kv_event_kind_t. */
    int32_t kind;
    /** For DYNAMO_KV_STORED. */
    const dynamo_kv_stored_t *stored;
    /** For DYNAMO_KV_REMOVED: hashes of the blocks. */
    const uint64_t *removed;
    /** Their number. */
    size_t removed_count;
} dynamo_kv_event_t;

/** Counters of a publisher. */
typedef struct dynamo_kv_statistics_t {
    /** sizeof(dynamo_kv_statistics_t), set by the caller: the library fills no more than that. */
    size_t struct_size;
    /** Events that were handed over to NVIDIA Dynamo. */
    uint64_t published_events;
    /** Events that wait for that. */
    uint64_t queued_events;
    /** Blocks in those. */
    uint64_t queued_blocks;
    /** Events that could not be handed over; dynamo_kv_publisher_flush() says why. */
    uint64_t failed_events;
    /** Blocks that the worker has, by what was handed over. */
    uint64_t stored_blocks;
} dynamo_kv_statistics_t;

/**
 * Begins to publish the KV events of a worker.
 *
 * @param config_json  a JSON object:
 *                     "endpoint"              path of the worker: "namespace.component.endpoint", or
 *                                             without the namespace, which is the cluster's then;
 *                     "kv_block_size"         tokens per block, at least 1;
 *                     "cluster"               optional; the same object as the worker's, whose id
 *                                             the events have then;
 *                     "data_parallel_rank"    optional, default 0: the rank whose blocks these are;
 *                     "worker_id"             optional: the id of a worker in another process;
 *                     "enable_local_indexer"  optional, default true: keep an index beside the
 *                                             worker, which routers that start later ask;
 *                     "queue_blocks"          optional, default 65536: bound of the queue, in blocks;
 *                     "batching_timeout_ms"   optional: how long Dynamo may collect events, in
 *                                             milliseconds;
 *                     "zmq_endpoint"          optional: address like "tcp://127.0.0.1:5557" where an
 *                                             engine publishes events itself, which are passed on.
 *                                             The functions below then take none;
 *                     "zmq_topic"             optional: the topic of those;
 *                     "python"                as for dynamo_runtime_create().
 * Ownership: the caller owns the result; dynamo_kv_publisher_destroy() it.
 * Blocking:  until the cluster is joined, as dynamo_tokenizer_create().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the publisher, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, UNAVAILABLE (the
 *         cluster's servers), PYTHON_UNAVAILABLE, ENGINE_UNAVAILABLE (a Python package is missing),
 *         ENGINE_FAILED, VERSION_MISMATCH, CLOSED, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_kv_publisher_t *dynamo_kv_publisher_create(const char *config_json);

/**
 * Gives a publisher up. NULL is fine. Events that still wait are dropped: flush first. Routers forget the
 * worker's blocks when the worker leaves.
 * Blocking: until it has left the cluster, at most 10 seconds.
 * Contract: any thread; may block; not from log callbacks; takes its argument.
 */
DYNAMO_LLM_API void dynamo_kv_publisher_destroy(dynamo_kv_publisher_t *publisher);

/**
 * What there is to know of a publisher at present, as a JSON object:
 *
 *     {"state": "publishing" | "lost", "worker_id": 7587895338934311,
 *      "endpoint": "dynamo.backend.generate", "kv_block_size": 16, "data_parallel_rank": 0,
 *      "relays": whether it passes on the events of "zmq_endpoint", "problem": what is wrong, or null}
 *
 * "lost": the cluster's discovery is not reachable; the publisher takes events, and says all that is stored
 * when it is back, with the process's new worker_id unless the configuration gives one.
 * Ownership: the caller owns the string; dynamo_free() it.
 * Blocking:  until Python has answered: as a rule less than a millisecond.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_kv_publisher_info(dynamo_kv_publisher_t *publisher);

/**
 * Says that blocks were computed. The event is copied into a queue.
 *
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK; DYNAMO_PENDING: the queue is full and the event was not taken, say it again later
 *         (dynamo_kv_publisher_flush() waits); INVALID_HANDLE, INVALID_ARGUMENT, INVALID_STATE (the
 *         publisher passes on the events of "zmq_endpoint"), CLOSED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_stored(dynamo_kv_publisher_t *publisher,
                                                  const dynamo_kv_stored_t *stored);

/**
 * Says that blocks were dropped. Returns as dynamo_kv_publisher_stored().
 * @param block_hashes  as they were stored; others are ignored
 * @param count         their number
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_removed(dynamo_kv_publisher_t *publisher,
                                                   const uint64_t *block_hashes, size_t count);

/**
 * Says that all blocks were dropped. Returns as dynamo_kv_publisher_stored().
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_cleared(dynamo_kv_publisher_t *publisher);

/**
 * Says what happened in a whole step of an engine, in order: all of it is taken, or nothing.
 *
 * @param events      an array
 * @param count       its length
 * @param event_size  sizeof(dynamo_kv_event_t) as the program was built
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return as dynamo_kv_publisher_stored()
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_publish_many(dynamo_kv_publisher_t *publisher,
                                                        const dynamo_kv_event_t *events,
                                                        size_t count, size_t event_size);

/**
 * Waits until everything that was published before has been handed over to NVIDIA Dynamo, which sends it
 * on its own. If something could not be handed over since the last time, this says why, once.
 *
 * @param timeout_ms  milliseconds to wait; -1 for ever, 0 to look
 * Blocking: up to timeout_ms.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK, DYNAMO_PENDING (not all yet), INVALID_HANDLE, INVALID_ARGUMENT, CLOSED,
 *         ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_flush(dynamo_kv_publisher_t *publisher,
                                                 int64_t timeout_ms);

/**
 * Counters of a publisher.
 * @param statistics  filled; set statistics->struct_size first
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_statistics(dynamo_kv_publisher_t *publisher,
                                                      dynamo_kv_statistics_t *statistics);

/**
 * Hashes of the full blocks of a prompt, as NVIDIA Dynamo computes them: for engines without a hash of
 * their own. Equal hashes mean equal prompts up to the end of the block, with the same adapter and salt.
 *
 * @param token_ids   the prompt from its beginning; may be NULL if count is 0
 * @param count       its length in tokens
 * @param lora_name   NULL if none
 * @param cache_salt  NULL if none
 * @param hashes      gets the first hash; NULL on an error, and if there is no full block
 * @param hash_count  gets their number
 * Ownership: the caller owns *hashes; dynamo_free() it.
 * Blocking:  until Python has computed them: a fraction of a millisecond and more for long prompts. Not
 *            for the thread of an engine's step.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_hashes(dynamo_kv_publisher_t *publisher,
                                                  const uint32_t *token_ids, size_t count,
                                                  const char *lora_name, const char *cache_salt,
                                                  uint64_t **hashes, size_t *hash_count);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Routers
 * For gateways that send requests themselves and ask only where to. A request is chosen for, booked, and
 * freed when its answer has ended, so that the next choice knows what the workers have to do.
 * docs/router.md has more. Each function here, but for destroy and info, waits for an answer of Python
 * without its GIL: as a rule less than a millisecond. Many threads may ask one router at once. */
/** @{ */

/** Chooses workers for requests. Opaque. */
typedef struct dynamo_router_t dynamo_router_t;

/** Which worker of a request is looked for. */
typedef enum dynamo_route_phase_t {
    /** Each one that the request needs: with "disaggregated" both. */
    DYNAMO_ROUTE_ALL = 0,
    /** The one that computes the prompt. */
    DYNAMO_ROUTE_PREFILL = 1,
    /** The one that answers. */
    DYNAMO_ROUTE_DECODE = 2
} dynamo_route_phase_t;

/** How to choose. Zero the struct, then set what there is. */
typedef struct dynamo_route_options_t {
    /** sizeof(dynamo_route_options_t) as the program was built. */
    size_t struct_size;
    /** A dynamo_route_phase_t. */
    int32_t phase;
    /** More goes ahead of less, whatever else; of those that wait for a worker. */
    uint32_t strict_priority;
    /** If set, the request is booked on what is chosen, under this id; as dynamo_router_reserve(). */
    const char *request_id;
    /** Ids of the workers that may be chosen; NULL for all. */
    const uint64_t *workers;
    /** Their number; 0 for all. */
    size_t worker_count;
    /** LoRA adapter of the request; NULL if none. */
    const char *lora_name;
    /** Its cache salt; NULL if none, or the body's "nvext". */
    const char *cache_salt;
    /** Seconds that it goes ahead of others that wait for a worker. */
    double priority_jump;
    /** Tokens that its answer may have; 0 if not known. */
    uint64_t expected_output_tokens;
    /** JSON object: {"required_taints": ["gpu=h100"], "preferred_taints": {"zone=a": 0.5}}, marks that a
     * worker must have, and that speak for it, or against it with a negative weight. NULL if none. */
    const char *constraints_json;
} dynamo_route_options_t;

/** The workers for a request. */
typedef struct dynamo_selection_t {
    /** sizeof(dynamo_selection_t) as the library was built. */
    size_t struct_size;
    /** 1 if there is a worker that answers, in the members without a prefix. */
    int32_t has_worker;
    /** 1 if there is another one that computes the prompt, in those with "prefill_". */
    int32_t has_prefill_worker;
    /** Its id: in the cluster, the instance id. */
    uint64_t worker_id;
    /** Its data parallel rank. */
    uint32_t dp_rank;
    /** Blocks of the prompt that it has. */
    uint32_t overlap_blocks;
    /** The one that computes the prompt. */
    uint64_t prefill_worker_id;
    /** Its data parallel rank. */
    uint32_t prefill_dp_rank;
    /** Blocks of the prompt that it has. */
    uint32_t prefill_overlap_blocks;
    /** Where the worker serves, as the discovery or upsert_worker says; NULL if not known. */
    const char *address;
    /** Where the one that computes the prompt does. */
    const char *prefill_address;
    /** The prompt. */
    const uint32_t *token_ids;
    /** Its length in tokens. */
    size_t token_count;
} dynamo_selection_t;

/**
 * Opens a router, over the workers of a cluster, or over workers that it is told of.
 *
 * @param config_json  a JSON object:
 *                     "cluster"              the cluster, as for dynamo_runtime_create(); without it the
 *                                            router needs no servers and is told of its workers;
 *                     "endpoint"             with a cluster: path of the workers that answer;
 *                     "mode"                 "aggregated" (default), or "disaggregated": other workers
 *                                            compute the prompts;
 *                     "prefill_endpoint"     with a cluster and "disaggregated": path of those;
 *                     "kv_block_size"        tokens per KV block; with a cluster the default is what the
 *                                            workers' model says, and then a worker is waited for;
 *                     "workers"              without a cluster: an array of workers, each as for
 *                                            dynamo_router_upsert_worker();
 *                     "options"              settings of NVIDIA Dynamo's router: keywords of
 *                                            KvRouterConfig, or of SelectionService without a cluster;
 *                     "model"                folder with the tokenizer and chat template for bodies;
 *                                            with a cluster the default is what the workers' model says;
 *                     "wait_for_workers_ms"  how long to wait for that, default 10000;
 *                     "python"               as for dynamo_runtime_create().
 * Ownership: the caller owns the result; dynamo_router_destroy() it.
 * Blocking:  until the cluster is joined, as dynamo_tokenizer_create().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the router, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, UNAVAILABLE (the
 *         cluster's servers, or no worker in time), MODEL_NOT_FOUND, PYTHON_UNAVAILABLE,
 *         ENGINE_UNAVAILABLE (a Python package is missing), ENGINE_FAILED, VERSION_MISMATCH, CLOSED,
 *         SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_router_t *dynamo_router_create(const char *config_json);

/**
 * Gives a router up. NULL is fine. What it had booked is forgotten.
 * Blocking: until it has left the cluster, at most 10 seconds.
 * Contract: any thread; may block; not from log callbacks; takes its argument.
 */
DYNAMO_LLM_API void dynamo_router_destroy(dynamo_router_t *router);

/**
 * What there is to know of a router, as a JSON object:
 *
 *     {"mode": "aggregated", "kv_block_size": 16, "endpoint": "dynamo.backend.generate"}
 *
 * Ownership: the router's; valid until it is destroyed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_router_info(dynamo_router_t *router);

/**
 * Chooses for a prompt of token ids.
 *
 * @param token_ids  the prompt; may be NULL if count is 0
 * @param count      its length in tokens
 * @param options    NULL for the defaults: all workers, nothing is booked
 * Ownership: the caller owns the result; dynamo_free() it, once for all that it points to.
 * Blocking:  until it is chosen.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the workers, or NULL: INVALID_HANDLE, INVALID_ARGUMENT (also a request_id that is booked),
 *         UNAVAILABLE (no worker that may be chosen is there), OVERLOADED (too many wait), NOT_SUPPORTED,
 *         CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_selection_t *dynamo_router_select(dynamo_router_t *router,
                                                        const uint32_t *token_ids, size_t count,
                                                        const dynamo_route_options_t *options);

/**
 * Chooses for an OpenAI body: a chat, by the model's template and tokenizer, or a completion. Of its
 * "nvext", "agent_hints" (priority, strict_priority, osl), "cache_salt" and "routing_constraints" count.
 *
 * @param request_json  as for dynamo_request_create()
 * @param options       as for dynamo_router_select()
 * Ownership: as for dynamo_router_select(). The token ids of the prompt are in the result: the worker
 *            need not make them once more.
 * Blocking:  until it is chosen.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return as dynamo_router_select(), and INVALID_JSON, INVALID_REQUEST, MODEL_NOT_FOUND (the model's
 *         files are not on this machine)
 */
DYNAMO_LLM_API dynamo_selection_t *dynamo_router_select_body(dynamo_router_t *router,
                                                             const char *request_json,
                                                             const dynamo_route_options_t *options);

/**
 * Books a request on the workers of a selection: from now on they have it to do, for all choices of this
 * router. The selection may be the caller's own.
 *
 * @param request_id  any text that is not booked
 * @param selection   workers and prompt; set struct_size
 * @param options     lora_name and cache_salt of the request count; may be NULL
 * Blocking: until it is booked.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (booked already, or no such worker),
 *         NOT_SUPPORTED, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_router_reserve(dynamo_router_t *router, const char *request_id,
                                             const dynamo_selection_t *selection,
                                             const dynamo_route_options_t *options);

/**
 * Says that the first token of a booked request has come: its prompt is computed, and a worker that only
 * computes prompts is free of it.
 * Blocking: until it is noted.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (no such request), CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_router_prefill_complete(dynamo_router_t *router,
                                                      const char *request_id);

/**
 * Says that the answer of a booked request has filled one more KV block.
 * @param decay  1, or less, down to 0: how much of the blocks that only this request has counts from now
 *               on, for it comes to its end
 * Blocking: until it is noted.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return as dynamo_router_prefill_complete()
 */
DYNAMO_LLM_API int32_t dynamo_router_output_block(dynamo_router_t *router, const char *request_id,
                                                  double decay);

/**
 * Says that a booked request has ended, in whatever way.
 * Blocking: until it is noted.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return as dynamo_router_prefill_complete()
 */
DYNAMO_LLM_API int32_t dynamo_router_free(dynamo_router_t *router, const char *request_id);

/**
 * What each worker would have to do if a prompt came to it; for no prompt, what it has to do now:
 *
 *     [{"worker_id": 1, "dp_rank": 0, "potential_prefill_tokens": 64, "potential_decode_blocks": 4,
 *       "active_requests": 1}, ...]
 *
 * @param token_ids  the prompt; may be NULL if count is 0
 * @param count      its length in tokens
 * @param options    phase, lora_name and cache_salt count; may be NULL
 * Ownership: the caller owns the text; dynamo_free() it.
 * Blocking:  until the answer is there.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: as dynamo_router_select()
 */
DYNAMO_LLM_API char *dynamo_router_loads(dynamo_router_t *router, const uint32_t *token_ids,
                                         size_t count, const dynamo_route_options_t *options);

/**
 * How many KV blocks of a prompt each worker has:
 *
 *     [{"worker_id": 1, "dp_rank": 0, "device_blocks": 4, "host_pinned_extension_blocks": 0,
 *       "disk_extension_blocks": 0, ...}, ...]
 *
 * @param token_ids  the prompt; may be NULL if count is 0
 * @param count      its length in tokens
 * @param options    phase, lora_name and cache_salt count; may be NULL
 * Ownership: the caller owns the text; dynamo_free() it.
 * Blocking:  until the answer is there.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: as dynamo_router_select()
 */
DYNAMO_LLM_API char *dynamo_router_overlaps(dynamo_router_t *router, const uint32_t *token_ids,
                                            size_t count, const dynamo_route_options_t *options);

/**
 * The workers that are there:
 *
 *     [{"worker_id": 1, "phase": "aggregated", "address": "127.0.0.1:40123/..."}, ...]
 *
 * Without a cluster each has what it was described with, too.
 * Ownership: the caller owns the text; dynamo_free() it.
 * Blocking:  until the answer is there.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_router_workers(dynamo_router_t *router);

/**
 * Adds a worker to a router without a cluster, or changes it.
 *
 * @param worker_json  a JSON object:
 *                     "worker_id"               an unsigned number of 64 bits;
 *                     "endpoint"                where it serves; comes back as the address;
 *                     "kv_events_endpoint"      where its engine publishes KV events by ZMQ, such as
 *                                               "tcp://10.0.0.7:5557"; nothing needs to listen there;
 *                     "kv_events_endpoints"     the same for each rank: {"0": "tcp://...", ...};
 *                     "phase"                   "aggregated" or "decode" (answers), or "prefill";
 *                     "block_size"              default: the router's;
 *                     "data_parallel_start_rank", "data_parallel_size", "max_num_batched_tokens",
 *                     "total_kv_blocks", "taints", and the other keys of Dynamo's worker record.
 * Blocking: until it may be chosen.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_JSON, INVALID_ARGUMENT, NOT_SUPPORTED (there is a cluster),
 *         CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_router_upsert_worker(dynamo_router_t *router,
                                                   const char *worker_json);

/**
 * Takes a worker out of a router without a cluster.
 * Blocking: until it is not chosen any more.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (no such worker), NOT_SUPPORTED (there is a
 *         cluster), CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_router_delete_worker(dynamo_router_t *router, uint64_t worker_id);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_CLUSTER_H */
