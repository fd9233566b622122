/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/cluster.h
 * @brief Everything for NVIDIA Dynamo clusters: worker.h, kv_events.h, and router.h.
 *
 * A program that only sends requests to a cluster needs none of this: it calls dynamo_runtime_create() with the engine
 * "dynamo". worker.h and kv_events.h are for programs that serve models to a cluster, router.h is for gateways that
 * route requests themselves.
 */
#ifndef DYNAMO_LLM_CLUSTER_H
#define DYNAMO_LLM_CLUSTER_H

#include "kv_events.h"
#include "router.h"
#include "worker.h"

#endif /* DYNAMO_LLM_CLUSTER_H */
