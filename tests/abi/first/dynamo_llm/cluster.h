/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_CLUSTER_H
#define DYNAMO_LLM_CLUSTER_H

#include "kv_events.h"
#include "router.h"
#include "worker.h"

#endif
