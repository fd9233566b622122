/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between the library and the Python module that it opens: one C function, no C++ types,
 * no exceptions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api_table.h"
#include "stream/text_stage.h"

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

/* Functions that decode token IDs without Python. They never wait, unless the tokenizer has a decoder that only the
 * library `tokenizers` knows. */
struct dynamo_detokenizer_functions {
    /* Starts to decode a text.
     *   vocabulary  the number that the engine of the tokenizer reports
     * Returns NULL if there is no memory, or no such vocabulary. */
    void *(*open)(uint64_t vocabulary, int32_t skips_special_tokens);
    /* Decodes more token IDs; is_last: and ends the text. The text is valid until the next call. Returns a status; after a
     * negative one the state is undefined. */
    int32_t (*feed)(void *detokenizer, const uint32_t *ids, size_t count, int32_t is_last,
                    const char **text, size_t *length);
    void (*close)(void *detokenizer);
};

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
    /* Registers the functions that decode; they stay valid. */
    void (*set_detokenizers)(const struct dynamo_detokenizer_functions *functions);
    /* Converts the tokens that an engine pushes into a choice of a stream with a stage, which the stream releases. The
     * usage of the answer then has the tokens that the stage lets through, and prompt_tokens, added for all choices.
     * Must be called before the first push. The stage is released in any case. Returns a status; CANCELLED if the request
     * has ended. */
    int32_t (*set_text_stage)(dynamo_stream_t *stream, uint32_t index,
                              const struct dynamo_text_stage *stage, uint64_t prompt_tokens);
    /* Passes the request of a stream on to the engine of another runtime, which from then on owns the stream, as if it had
     * been sent there.
     *   body_json  the body for that engine
     * Returns a status; if it is negative, the stream still belongs to the engine that had it. */
    int32_t (*forward)(dynamo_stream_t *stream, dynamo_runtime_t *runtime, const char *body_json);
};

/* Starts or joins Python, starts the thread of the asyncio event loop, and registers the engine "python" through
 * the table. Must not be called concurrently. Returns a status; api->dynamo_last_error() returns the error. */
typedef int32_t (*dynamo_bridge_start_t)(const struct dynamo_api *api,
                                         const struct dynamo_bridge_options *options);

#define DYNAMO_BRIDGE_START_NAME "dynamo_bridge_start"
