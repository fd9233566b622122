/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/kv_events.h
 * @brief KV events: tell the routers of an NVIDIA Dynamo cluster which KV blocks a worker has.
 *
 * A router that knows which KV blocks a worker has sends it the prompts that begin with them. The engine reports which
 * blocks it stores and drops. A step of an engine may do so directly: no function here acquires Python's GIL or waits,
 * except those with a paragraph "Blocking". docs/kv-events.md explains more.
 *
 * The rules of dynamo_llm.h hold here, too. Python does the work, with the extra `dynamo`.
 */
#ifndef DYNAMO_LLM_KV_EVENTS_H
#define DYNAMO_LLM_KV_EVENTS_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name Events */
/** @{ */

/** Publishes the KV events of one data parallel rank of a worker. Opaque. */
typedef struct dynamo_kv_publisher_t dynamo_kv_publisher_t;

/** Kind of a KV event. */
typedef enum dynamo_kv_event_kind_t {
    /** Blocks were computed: `stored`. */
    DYNAMO_KV_STORED = 1,
    /** Blocks were dropped: `removed`. */
    DYNAMO_KV_REMOVED = 2,
    /** All blocks were dropped. */
    DYNAMO_KV_CLEARED = 3
} dynamo_kv_event_kind_t;

/** Consecutive blocks that were computed. Zero the struct, then set the members that apply. */
typedef struct dynamo_kv_stored_t {
    /** sizeof(dynamo_kv_stored_t) when the program was built. */
    size_t struct_size;
    /** The tokens of all blocks. */
    const uint32_t *token_ids;
    /** Their number: block_count times the tokens per block. Blocks that are not full are not reported. */
    size_t token_count;
    /** A hash for each block. It must be a function of everything up to the end of the block, and the same function on
     * all workers: the engine's own, or that of dynamo_kv_publisher_hashes(). */
    const uint64_t *block_hashes;
    /** Their number. */
    size_t block_count;
    /** Tokens per block in the engine; 0 for the publisher's value. Any other number is an error. */
    uint32_t tokens_per_block;
    /** 1: the first block follows the one with parent_hash; 0: it begins a prompt. */
    int32_t has_parent;
    /** Hash of the block before the first one. */
    uint64_t parent_hash;
    /** LoRA adapter with which the blocks were computed; NULL if none. */
    const char *lora_name;
    /** Requests share blocks only if they have the same cache salt; NULL if none. */
    const char *cache_salt;
} dynamo_kv_stored_t;

/** A KV event. */
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

/**
 * Creates a publisher for the KV events of a worker, and joins the cluster.
 *
 * @param config_json  a JSON object:
 *                     "endpoint"              path of the worker: "namespace.component.endpoint", or
 *                                             "component.endpoint" in the cluster's namespace;
 *                     "kv_block_size"         tokens per block, at least 1;
 *                     "cluster"               optional: the same object as the worker's; the events then carry the
 *                                             worker's id;
 *                     "data_parallel_rank"    optional, default 0: the rank whose blocks these are;
 *                     "worker_id"             optional: the id of a worker in another process;
 *                     "enable_local_indexer"  optional, default true: keep an index next to the worker, for routers
 *                                             that start later;
 *                     "queue_blocks"          optional, default 65536: capacity of the queue, in blocks;
 *                     "batching_timeout_ms"   optional: how long Dynamo may collect events, in milliseconds;
 *                     "zmq_endpoint"          optional: an address such as "tcp://127.0.0.1:5557", where an engine
 *                                             publishes events itself. They are relayed, and the functions below
 *                                             accept no others;
 *                     "zmq_topic"             optional: the topic of those;
 *                     "image_token_id", "video_token_id"  optional: tokens that stand for an image or a video in
 *                                             those, so that blocks differ by what they show, too;
 *                     "python"                as for dynamo_runtime_create().
 * Blocking:  until the cluster is joined, as dynamo_tokenizer_create().
 * @return the publisher, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, UNAVAILABLE (the cluster's servers),
 *         PYTHON_UNAVAILABLE, ENGINE_UNAVAILABLE (a Python package is missing), ENGINE_FAILED, VERSION_MISMATCH,
 *         CLOSED, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_kv_publisher_t *dynamo_kv_publisher_create(const char *config_json);

/**
 * Releases a publisher. Events that are still queued are dropped, so flush before. Routers forget the worker's blocks
 * when the worker leaves.
 * Blocking: until it has left the cluster, at most 10 seconds.
 */
DYNAMO_LLM_API void dynamo_kv_publisher_destroy(dynamo_kv_publisher_t *publisher);

/**
 * Returns the present state of a publisher as a JSON object:
 *
 *     {"state": "publishing" | "lost", "worker_id": 7587895338934311,
 *      "endpoint": "dynamo.backend.generate", "kv_block_size": 16, "data_parallel_rank": 0,
 *      "relays": whether it relays the events of "zmq_endpoint", "problem": what is wrong, or null}
 *
 * "lost": the cluster's discovery is not reachable. The publisher still takes events. When the discovery is back, it
 * reports everything that is stored, with the process's new worker_id, unless the configuration gives one.
 * Blocking:  until Python has answered, usually less than a millisecond.
 * @return the text, or NULL: INVALID_HANDLE, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_kv_publisher_info(dynamo_kv_publisher_t *publisher);

/**
 * Publishes that blocks were computed. The event is copied into a queue.
 *
 * @return DYNAMO_OK; DYNAMO_PENDING: the queue is full and the event was not taken, publish it again later
 *         (dynamo_kv_publisher_flush() waits); INVALID_HANDLE, INVALID_ARGUMENT, INVALID_STATE (the publisher relays
 *         the events of "zmq_endpoint"), CLOSED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_stored(dynamo_kv_publisher_t *publisher,
                                                  const dynamo_kv_stored_t *stored);

/**
 * Publishes that blocks were dropped.
 * @param block_hashes  the hashes with which they were stored; others are ignored
 * @param count         their number
 * @return as dynamo_kv_publisher_stored()
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_removed(dynamo_kv_publisher_t *publisher,
                                                   const uint64_t *block_hashes, size_t count);

/**
 * Publishes that all blocks were dropped.
 * @return as dynamo_kv_publisher_stored()
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_cleared(dynamo_kv_publisher_t *publisher);

/**
 * Publishes the events of a whole engine step, in order. Either all of them are taken, or none.
 *
 * @param events      an array
 * @param count       number of elements
 * @param event_size  sizeof(dynamo_kv_event_t) when the program was built
 * @return as dynamo_kv_publisher_stored()
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_publish_many(dynamo_kv_publisher_t *publisher,
                                                        const dynamo_kv_event_t *events,
                                                        size_t count, size_t event_size);

/**
 * Waits until everything that was published before has been passed to NVIDIA Dynamo, which sends it on its own. If
 * something could not be passed on since the last flush, this reports why, once.
 *
 * @param timeout_ms  milliseconds to wait; -1 for no limit, 0 to poll
 * Blocking: up to timeout_ms.
 * @return DYNAMO_OK, DYNAMO_PENDING (not all yet), INVALID_HANDLE, INVALID_ARGUMENT, CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_flush(dynamo_kv_publisher_t *publisher,
                                                 int64_t timeout_ms);

/**
 * Returns counters of a publisher as a JSON object:
 *
 *     {"published_events": n, "queued_events": n, "queued_blocks": n, "failed_events": n,
 *      "stored_blocks": n}
 *
 * "published_events" have been passed to NVIDIA Dynamo; "queued_events" wait for that, and "queued_blocks" are the
 * blocks in them; "failed_events" could not be passed on, and dynamo_kv_publisher_flush() reports why. "stored_blocks"
 * are the blocks that the worker has according to the events that were passed on.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_kv_publisher_statistics(dynamo_kv_publisher_t *publisher);

/**
 * Computes the hashes of the full blocks of a prompt as NVIDIA Dynamo does, for engines without a hash of their own.
 * Equal hashes mean equal prompts up to the end of the block, with the same adapter and cache salt.
 *
 * @param token_ids   the prompt from its beginning; may be NULL if count is 0
 * @param count       its length in tokens
 * @param lora_name   LoRA adapter; NULL if none
 * @param cache_salt  NULL if none
 * @param hashes      receives the first hash; NULL on an error, and if there is no full block
 * @param hash_count  receives their number
 * Blocking:  until Python has computed them: a fraction of a millisecond, longer for long prompts. Do not call it on
 *            the thread of an engine's step.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_kv_publisher_hashes(dynamo_kv_publisher_t *publisher,
                                                  const uint32_t *token_ids, size_t count,
                                                  const char *lora_name, const char *cache_salt,
                                                  uint64_t **hashes, size_t *hash_count);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_KV_EVENTS_H */
