/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/worker.h
 * @brief Workers: serve an engine of this library to an NVIDIA Dynamo cluster.
 *
 * A worker serves any engine of the process, also one in C: as a model that clients and frontends find by its name, or
 * as an endpoint for raw requests. docs/worker.md explains more.
 *
 * The rules of dynamo_llm.h hold here, too. Python does the work, with the extra `dynamo`; a function that
 * waits for it has a paragraph "Blocking".
 */
#ifndef DYNAMO_LLM_WORKER_H
#define DYNAMO_LLM_WORKER_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name Workers */
/** @{ */

/** An engine that is served to a cluster. Opaque. */
typedef struct dynamo_worker_t dynamo_worker_t;

/** The load of a data parallel rank of a worker, which routers take into account. Zero the struct, then set the members
 * that apply. */
typedef struct dynamo_worker_load_t {
    /** sizeof(dynamo_worker_load_t) when the program was built. */
    size_t struct_size;
    /** The rank, from 0. */
    uint32_t data_parallel_rank;
    /** KV blocks of the requests in decode; -1 if not known. */
    int64_t active_decode_blocks;
    /** All KV blocks in use; -1 if not known. */
    int64_t kv_used_blocks;
} dynamo_worker_load_t;

/**
 * Starts an engine and serves it to a cluster.
 *
 * @param config_json  a JSON object:
 *                     "endpoint"  path to serve: "namespace.component.endpoint", or "component.endpoint" in the
 *                                 cluster's namespace;
 *                     "runtime"   the engine and its model: a configuration as for dynamo_runtime_create(), with any
 *                                 engine of this process;
 *                     "cluster"   optional: the cluster, as for the engine "dynamo";
 *                     "model"     what the worker registers: {"name": the name that requests give as "model",
 *                                 "kv_block_size": tokens, "user_data": {...}, ...}; docs/worker.md has all keys. Not
 *                                 for a raw engine (DYNAMO_ENGINE_DATA);
 *                     "drain_ms"  optional: how long requests in flight may take when the worker stops by itself,
 *                                 default 30000;
 *                     "health"    optional: see docs/worker.md;
 *                     "engine_routes"  optional: names of control calls of the engine that Dynamo's system server
 *                                 offers as /engine/NAME; requires the environment variable DYN_SYSTEM_PORT;
 *                     "python"    as for dynamo_runtime_create().
 * Blocking:  until the model is loaded and the worker is registered, as dynamo_runtime_create().
 * @return the worker, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, UNAVAILABLE (the cluster's servers),
 *         and all of dynamo_runtime_create()
 */
DYNAMO_LLM_API dynamo_worker_t *dynamo_worker_create(const char *config_json);

/**
 * Releases a worker. Unless it was shut down before, it leaves the cluster and cancels its requests in flight; a thread
 * in dynamo_worker_wait() gets DYNAMO_END.
 * Blocking: until it has left the cluster, at most 10 seconds; not at all while another thread is inside a call for
 * this worker, which then releases it.
 */
DYNAMO_LLM_API void dynamo_worker_destroy(dynamo_worker_t *worker);

/**
 * Returns the present state of a worker as a JSON object:
 *
 *     {"state": "serving" | "draining" | "lost" | "stopped", "kind": "tokens" | "text" | "data",
 *      "endpoint": "dynamo.backend.generate", "worker_id": 7587895338934311, "model": its name,
 *      "in_flight": requests, "served": requests that ended well, "failed": others,
 *      "healthy": boolean, "problem": what is wrong, or null}
 *
 * "lost": the cluster's discovery is not reachable; the worker registers again when it is. "worker_id", which is the
 * cluster's instance id, is null once the worker has stopped; "model" is null for a raw engine.
 * Blocking:  until Python has answered, usually less than a millisecond.
 * @return the text, or NULL: INVALID_HANDLE, CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_worker_info(dynamo_worker_t *worker);

/**
 * Leaves the cluster: no new requests arrive, those in flight continue, and the remaining ones are cancelled when the
 * time is up, with an error for their callers. May be called more than once.
 *
 * @param timeout_ms  milliseconds to wait for requests in flight; -1 for no limit, 0 cancels them at once
 * Blocking: up to timeout_ms, plus the time that leaving takes.
 * @return DYNAMO_OK: all requests ended by themselves; DEADLINE_EXCEEDED: some were cancelled; INVALID_HANDLE,
 *         INVALID_ARGUMENT, CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_worker_shutdown(dynamo_worker_t *worker, int64_t timeout_ms);

/**
 * Waits until the worker has stopped, because another thread shut it down or destroyed it.
 *
 * @param timeout_ms  milliseconds to wait; -1 for no limit, 0 to poll
 * Blocking: up to timeout_ms.
 * @return DYNAMO_END (it has stopped), DYNAMO_PENDING, INVALID_HANDLE, INVALID_ARGUMENT, CLOSED, ENGINE_FAILED
 */
DYNAMO_LLM_API int32_t dynamo_worker_wait(dynamo_worker_t *worker, int64_t timeout_ms);

/**
 * Publishes the load of a worker to routers. A step of an engine may call this directly: it copies, and does not wait.
 * If several reports of one rank are pending, the latest counts. A report that could not be sent is logged.
 *
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_worker_publish_load(dynamo_worker_t *worker,
                                                  const dynamo_worker_load_t *load);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_WORKER_H */
