/* SPDX-License-Identifier: Apache-2.0 */
/* The line between the library and the Python module that it opens: one C function, no C++ types,
 * no exceptions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api_table.h"

struct dynamo_bridge_options {
    /* Absolute path of the interpreter whose environment Python code gets; NULL if this process
     * runs Python already. */
    const char *executable;
    /* Folder of the Python package `dynamo_llm`. */
    const char *package_dir;
};

/* Starts or joins Python, starts the loop thread, and registers the engine "python" through the
 * table. Called once at a time. Returns a status; an error is in api->dynamo_last_error(). */
typedef int32_t (*dynamo_bridge_start_t)(const struct dynamo_api *api,
                                         const struct dynamo_bridge_options *options);

#define DYNAMO_BRIDGE_START_NAME "dynamo_bridge_start"
