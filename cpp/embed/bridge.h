/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between the library and the Python module that it opens: one C function, no C++ types,
 * no exceptions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api_table.h"

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
};

/* Starts or joins Python, starts the thread of the asyncio event loop, and registers the engine "python" through
 * the table. Must not be called concurrently. Returns a status; api->dynamo_last_error() returns the error. */
typedef int32_t (*dynamo_bridge_start_t)(const struct dynamo_api *api,
                                         const struct dynamo_bridge_options *options);

#define DYNAMO_BRIDGE_START_NAME "dynamo_bridge_start"
