/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between the library and the Python module that it opens: one C function, no C++ types,
 * no exceptions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api_table.h"

/* Functions of routers that are called for each request of a gateway. */
enum dynamo_router_function {
    DYNAMO_ROUTER_SELECT = 0,
    DYNAMO_ROUTER_RESERVE = 1,
    DYNAMO_ROUTER_PREFILL_COMPLETE = 2,
    DYNAMO_ROUTER_OUTPUT_BLOCK = 3,
    DYNAMO_ROUTER_FREE = 4
};

/* A call of a router, with checked arguments. Members that the function does not use are 0. */
struct dynamo_router_call {
    int32_t function; /* a dynamo_router_function */
    const char *request_id;
    dynamo_route_options_t options; /* its request_id is not used */
    const uint32_t *token_ids;
    size_t token_count;
    dynamo_selection_t selection; /* the workers to reserve */
    double decay;
};

/* Passes a call to a router in Python, and waits until the thread of the event loop has executed it.
 *   instance   the engine that is the router
 *   selection  receives the workers of DYNAMO_ROUTER_SELECT. Its addresses are valid until this thread's next call.
 * Returns a status; api->dynamo_last_error() returns the error. */
typedef int32_t (*dynamo_call_router_t)(void *instance, const struct dynamo_router_call *call,
                                        dynamo_selection_t *selection);

struct dynamo_bridge_options {
    /* Absolute path of the interpreter whose environment Python uses; NULL if this process already
     * runs Python. */
    const char *executable;
    /* Folder of the Python package `dynamo_llm`. */
    const char *package_dir;
    /* Registers a function that checks whether the calling thread must not wait inside the library, either
     * for an engine of the module (hosted) or at all: dynamo::wait_check::Callback in base/wait_check.hpp. */
    void (*set_wait_check)(int32_t (*check)(const char *call, int32_t hosted, char *why,
                                            size_t size));
    /* Registers the function that calls routers. */
    void (*set_call_router)(dynamo_call_router_t function);
};

/* Starts or joins Python, starts the thread of the asyncio event loop, and registers the engine "python" through
 * the table. Must not be called concurrently. Returns a status; api->dynamo_last_error() returns the error. */
typedef int32_t (*dynamo_bridge_start_t)(const struct dynamo_api *api,
                                         const struct dynamo_bridge_options *options);

#define DYNAMO_BRIDGE_START_NAME "dynamo_bridge_start"
