/* SPDX-License-Identifier: Apache-2.0 */
/* Table of every function that takes a handle, for tests that call each one with invalid handles. */
#ifndef CALLS_H
#define CALLS_H

#include "dynamo_llm/cluster.h"
#include "dynamo_llm/engine.h"

enum kind {
    RUNTIME,
    REQUEST,
    RESPONSE,
    STREAM,
    TOKENIZER,
    DETOKENIZER,
    WORKER,
    KV_PUBLISHER,
    ROUTER,
    QUEUE,
    CREATION,
    CHAT,
    JSON
};

struct call {
    const char *name;
    enum kind kind;
    int null_is_fine;
    int32_t (*call)(void *handle); /* returns the status; checks the failure result */
};

extern const struct call calls[];
extern const size_t call_count;

#endif
