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

/** @name Workers */
/** @{ */

/** An engine that is served to a cluster. Opaque. */
typedef struct dynamo_worker_t dynamo_worker_t;
/** @} */

/** @name Events */
/** @{ */

/** Tells routers which KV blocks a worker has. Opaque. */
typedef struct dynamo_kv_publisher_t dynamo_kv_publisher_t;
/** @} */

/** @name Routers */
/** @{ */

/** Chooses workers for requests. Opaque. */
typedef struct dynamo_router_t dynamo_router_t;
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_CLUSTER_H */
