/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm.h
 * @brief LLM inference from C: runs requests on an engine in this process or on a cluster.
 *
 * Five calls are enough:
 *
 *     dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
 *     if (runtime == NULL) return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
 *     dynamo_request_t *request = dynamo_request_create(
 *         "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a KV cache?\"}]}");
 *     dynamo_request_send(runtime, request);
 *     dynamo_response_t *response;
 *     while ((response = dynamo_request_recv(request)) != NULL) {
 *         fputs(dynamo_response_text(response, NULL), stdout);
 *         dynamo_free(response);
 *     }
 *
 * The rules below hold for every function of the C headers. The comment of a function states only what is
 * different or more specific.
 *
 *  - Threads:   The library is thread-safe. Any thread may call any function at any time, and several threads
 *               may use the same handle concurrently. Do not call it from a signal handler, and do not end a
 *               thread with pthread_cancel() while it is inside a function.
 *  - Blocking:  A function returns without waiting, unless it has a paragraph "Blocking". No function acquires
 *               Python's GIL, with one exception: in a program that runs Python itself, a function that creates
 *               a runtime, tokenizer, worker, KV publisher, or router acquires it once.
 *  - Deadlocks: No call waits for something that only its own thread can do. Such a call fails at once with
 *               DYNAMO_ERROR_INVALID_STATE, and the message states what to do instead: on the asyncio event loop
 *               that engines in Python share, every wait; while the thread holds Python's GIL, a wait for an
 *               engine in Python (a timeout of 0 is allowed, and functions that create an object release the
 *               GIL); in a callback, a wait that can end only after this callback, or in another one. There, and
 *               in every callback of a request, a destroy function succeeds without waiting, and the engine
 *               stops later.
 *  - Ownership: The type of a result tells who owns it. The caller owns what is returned as `T *`, or stored
 *               through a `T **`: it releases a handle with the matching destroy function, and a response, string,
 *               array, or struct with dynamo_free(). A `const T *` belongs to the object it was obtained from and is
 *               valid until that object is released. Arguments are copied; the caller may free them after the call.
 *               A `user` pointer stays the caller's and is passed back unchanged.
 *  - Handles:   A destroy function releases its argument and ignores NULL. Parents may be destroyed before their
 *               children. A handle that is NULL, stale, foreign, or of the wrong type causes
 *               DYNAMO_ERROR_INVALID_HANDLE, never a crash. One exception: if a create function returned NULL, using
 *               that NULL in the same thread reports the error of the create function again, until the thread
 *               creates another object of that kind.
 *  - Strings:   UTF-8, terminated by NUL.
 *  - JSON:      A JSON text that is passed in has at most 64 MiB and 128 levels, its values need at most 256 MiB
 *               of memory, and nothing follows it; otherwise it is DYNAMO_ERROR_INVALID_JSON. If an object has a key
 *               twice, the last one counts. The locale of the program has no effect.
 *  - Errors:    A function that returns a status returns a negative one on failure; a function that returns a
 *               pointer returns NULL. dynamo_last_status() and dynamo_last_error() then tell the calling thread
 *               what happened. A successful call resets them to DYNAMO_OK. Comments write INVALID_HANDLE for
 *               DYNAMO_ERROR_INVALID_HANDLE, and so on.
 *  - Callbacks: The library holds no lock while it runs a callback of the program or a function of an engine. A
 *               callback may call every function. One exception: a log callback may call a function that blocks
 *               only if the function's comment allows it, because it could wait for the thread that logs.
 *               A C++ exception from a callback is logged and goes no further; what waited for the callback
 *               fails. A callback should return. If it calls pthread_exit(), the library replaces a thread of its
 *               own; a thread of the program ends, or the whole process if a noexcept function, such as a C++
 *               destructor, is on its stack. In a release callback, and in a log callback on Python's thread,
 *               pthread_exit() is forbidden.
 *  - Exit:      Exit handlers may call every function, and so may destructors of static objects, of
 *               thread_local objects, and of thread-specific data. In the last rounds of destructors of
 *               thread-specific data an error has a status but no message of its own.
 *  - fork():    Once a process has started a runtime, its child processes cannot use the library: every function
 *               fails there with DYNAMO_ERROR_FORKED, until exec().
 */
#ifndef DYNAMO_LLM_H
#define DYNAMO_LLM_H

#include <stddef.h>
#include <stdint.h>

#if defined(DYNAMO_LLM_STATIC) || defined(SWIG) /* SWIG cannot read attributes */
#define DYNAMO_LLM_API
#elif defined(_WIN32)
#if defined(DYNAMO_LLM_BUILD)
#define DYNAMO_LLM_API __declspec(dllexport)
#else
#define DYNAMO_LLM_API __declspec(dllimport)
#endif
#else
#define DYNAMO_LLM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------- */
/** @name Versions
 * The ABI version is the number in the file name of the shared library. It changes only when a program that was
 * built against an older header could break (docs/abi.md). */
/** @{ */

/** Major version of this header. A new one may break programs. */
#define DYNAMO_LLM_VERSION_MAJOR 1
/** Minor version of this header. A new one adds features. */
#define DYNAMO_LLM_VERSION_MINOR 0
/** Patch version of this header. A new one fixes bugs. */
#define DYNAMO_LLM_VERSION_PATCH 0
/** Version of this header, "MAJOR.MINOR.PATCH". */
#define DYNAMO_LLM_VERSION_STRING "1.0.0"
/** Version of the binary interface that this header describes. */
#define DYNAMO_LLM_ABI_VERSION 1

/**
 * Returns the ABI version of the loaded library. This function exists in every version, forever. Never fails.
 */
DYNAMO_LLM_API uint32_t dynamo_abi_version(void);

/**
 * Returns the version of the loaded library, "MAJOR.MINOR.PATCH". Never fails.
 * Ownership: static.
 */
DYNAMO_LLM_API const char *dynamo_version_string(void);

/**
 * Checks whether the loaded library can serve a program that was built with the given header: the ABI
 * versions must be equal, and the library must not be older than the header.
 *
 * @param header_abi      DYNAMO_LLM_ABI_VERSION when the program was built
 * @param header_version  DYNAMO_LLM_VERSION_STRING when the program was built
 * @return DYNAMO_OK, DYNAMO_ERROR_VERSION_MISMATCH (the message names both versions), or
 *         DYNAMO_ERROR_INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_version_check(uint32_t header_abi, const char *header_version);

/** Calls dynamo_version_check() with the versions of this header. */
#define DYNAMO_LLM_VERSION_CHECK() \
    dynamo_version_check(DYNAMO_LLM_ABI_VERSION, DYNAMO_LLM_VERSION_STRING)
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Status
 * 0 is success. Positive numbers are results that are neither success nor error. Negative numbers are
 * errors: one for each kind of failure that a caller would handle differently. A number never changes its meaning.
 * Later versions may add some, so treat an unknown negative number as an error. */
/** @{ */

/** Result of a call or of a request. */
typedef enum dynamo_status_t {
    /** Success. */
    DYNAMO_OK = 0,
    /** The stream ended normally and everything in it has been received. */
    DYNAMO_END = 1,
    /** Nothing is available yet: the timeout passed, or the value is not known yet. */
    DYNAMO_PENDING = 2,

    /** An argument is NULL, out of range, or not UTF-8. */
    DYNAMO_ERROR_INVALID_ARGUMENT = -1,
    /** A handle is NULL, was destroyed, has another type, or never was a handle. */
    DYNAMO_ERROR_INVALID_HANDLE = -2,
    /** The object's state does not allow the call, such as sending twice, or receiving before sending. */
    DYNAMO_ERROR_INVALID_STATE = -3,
    /** A text is not valid JSON; the message gives the position. */
    DYNAMO_ERROR_INVALID_JSON = -4,
    /** A key or value of a configuration is wrong; the message names it and states what would be right. */
    DYNAMO_ERROR_INVALID_CONFIG = -5,
    /** A key or value of a request is wrong; the message names it and states what would be right. */
    DYNAMO_ERROR_INVALID_REQUEST = -6,
    /** No engine has this name; the message lists the known ones. */
    DYNAMO_ERROR_ENGINE_NOT_FOUND = -7,
    /** The engine is known, but something it needs is not installed; the message names it. */
    DYNAMO_ERROR_ENGINE_UNAVAILABLE = -8,
    /** The model does not exist, or is not a valid model. */
    DYNAMO_ERROR_MODEL_NOT_FOUND = -9,
    /** No usable Python was found; the message lists where it was searched for and what to install. */
    DYNAMO_ERROR_PYTHON_UNAVAILABLE = -10,
    /** The engine failed; for an engine in Python, the error details have the exception and traceback. */
    DYNAMO_ERROR_ENGINE_FAILED = -11,
    /** The request was cancelled. */
    DYNAMO_ERROR_CANCELLED = -12,
    /** A deadline passed. */
    DYNAMO_ERROR_DEADLINE_EXCEEDED = -13,
    /** The limits do not allow more requests at present; try again later. */
    DYNAMO_ERROR_OVERLOADED = -14,
    /** No worker or server is currently available; try again later. */
    DYNAMO_ERROR_UNAVAILABLE = -15,
    /** The stream was full and its policy is "fail". */
    DYNAMO_ERROR_SLOW_CONSUMER = -16,
    /** Prompt and answer do not fit into the model's context length. */
    DYNAMO_ERROR_CONTEXT_LENGTH = -17,
    /** The runtime was shut down. */
    DYNAMO_ERROR_CLOSED = -18,
    /** The process was forked after it had used the library; only the parent may continue to use it. */
    DYNAMO_ERROR_FORKED = -19,
    /** Memory allocation failed. */
    DYNAMO_ERROR_OUT_OF_MEMORY = -20,
    /** The engine or this platform does not support the operation. */
    DYNAMO_ERROR_NOT_SUPPORTED = -21,
    /** The versions of header and library, or of library and Python package, do not match. */
    DYNAMO_ERROR_VERSION_MISMATCH = -22,
    /** The operating system refused a resource, such as a thread or a file descriptor. */
    DYNAMO_ERROR_SYSTEM = -23,
    /** A bug in this library; please report it. */
    DYNAMO_ERROR_INTERNAL = -24
} dynamo_status_t;

/**
 * Returns the name of a status, such as "DYNAMO_ERROR_CANCELLED", or "DYNAMO_UNKNOWN_STATUS" for other numbers.
 * Never fails.
 * Ownership: static.
 */
DYNAMO_LLM_API const char *dynamo_status_name(int32_t status);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Errors
 * Each thread has its own last error, like errno. A request also keeps the error that ended it, see
 * dynamo_request_error(). The three functions of this section do not change the last error. */
/** @{ */

/** Returns the status of the calling thread's latest call. Never fails. */
DYNAMO_LLM_API int32_t dynamo_last_status(void);

/**
 * Returns the error message of the calling thread's latest call, or "" if that succeeded. Never fails.
 * Ownership: the library's; valid until the thread's next call.
 */
DYNAMO_LLM_API const char *dynamo_last_error(void);

/**
 * Returns the details of the calling thread's latest error as a JSON object, or "{}" if the call succeeded.
 * Never fails.
 *
 *     {"status": -11, "name": "DYNAMO_ERROR_ENGINE_FAILED", "message": "...",
 *      "layer": "core" | "embed" | "engine", "engine": "mistralrs", "request_id": "req-...",
 *      "retriable": false, "fatal": false,
 *      "python": {"type": "ValueError", "traceback": "..."}}
 *
 * "engine", "request_id", and "python" are present where they apply. "retriable": the same call may succeed
 * later. "fatal": the runtime (or, for PYTHON_UNAVAILABLE, Python in this process) will not recover.
 * "timeout_ms" is present if a deadline or a timeout passed: its milliseconds, as the message has them.
 * "traceback" is absent if the library itself found a mistake of the caller, such as INVALID_REQUEST.
 * "exiting": true is present if the exit of the process ended the request.
 * Ownership: the library's; valid until the thread's next call.
 */
DYNAMO_LLM_API const char *dynamo_last_error_json(void);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Memory */
/** @{ */

/**
 * Frees a response, or a string, array, or struct that a function of this library returned for the caller to
 * own. NULL is ignored. Any other pointer, or one that was freed already, sets the last status to
 * DYNAMO_ERROR_INVALID_HANDLE, and nothing is freed.
 * Ownership: releases its argument.
 */
DYNAMO_LLM_API void dynamo_free(void *pointer);

/** Tells the owner of a `user` pointer that the library will not use it again. Called exactly once for each
 * successful registration, from any thread. It must not block. */
typedef void (*dynamo_release_callback_t)(void *user);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Logging
 * The library, and the Python code that it runs, log through one callback per process. Without a callback, warnings
 * and errors go to stderr, one line per record; line breaks, control characters, bidirectional controls, and bytes
 * that are not UTF-8 are escaped. Nothing is ever written to stdout. */
/** @{ */

/** Severity of a log record. */
typedef enum dynamo_log_level_t {
    DYNAMO_LOG_TRACE = 0,
    DYNAMO_LOG_DEBUG = 1,
    DYNAMO_LOG_INFO = 2,
    DYNAMO_LOG_WARNING = 3,
    DYNAMO_LOG_ERROR = 4,
    DYNAMO_LOG_OFF = 5
} dynamo_log_level_t;

/**
 * Receives one log record. Called from any thread, from several at the same time, and never while the library holds
 * the GIL. Calls of the library in it that would log drop their records. It should return soon: the thread that logs
 * waits for it.
 *
 * The texts are not escaped: a traceback has line breaks, and engines, servers, and files can put any character into a
 * message. Escape them before you print them to a terminal or write them to a file of lines. They are valid
 * during the call.
 *
 * @param user     as passed to dynamo_log_set_callback()
 * @param level    a dynamo_log_level_t
 * @param logger   dotted name of the origin: "dynamo_llm.embed", or the name of a Python logger
 * @param message  the text, UTF-8, without a newline at its end
 */
typedef void (*dynamo_log_callback_t)(void *user, int32_t level, const char *logger,
                                      const char *message);

/**
 * Sets the receiver of log records for the whole process. Python loggers follow the level from the next
 * dynamo_runtime_create() on, so set it before.
 *
 * @param level     least level that is delivered; DYNAMO_LOG_OFF for none
 * @param callback  receiver; NULL for stderr
 * @param user      passed to the callback
 * @param release   called exactly once when the library no longer needs `user`: after another callback was set and
 *                  the last call of this one has returned; may be NULL
 * @return DYNAMO_OK or DYNAMO_ERROR_INVALID_ARGUMENT (then `release` is not called)
 */
DYNAMO_LLM_API int32_t dynamo_log_set_callback(int32_t level, dynamo_log_callback_t callback,
                                               void *user, dynamo_release_callback_t release);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Runtime
 * A runtime is an engine with a loaded model, ready for requests. A process may have several. */
/** @{ */

/** A runtime. Opaque. Requests in flight keep its engine alive. */
typedef struct dynamo_runtime_t dynamo_runtime_t;

/**
 * Starts an engine and loads its model.
 *
 * @param config_json  a JSON object. "{}" is the default: the demo model on mistral.rs in this process. The main
 *                     keys (dynamo_config_schema() has all of them, with types and ranges):
 *                     "engine"  name: "mistralrs" (default), "echo", "scripted", an engine registered with
 *                               dynamo_engine_register(), an entry point of the Python group "dynamo_llm.engines", or
 *                               "module:Class"; or {"library": path}, a shared library with an engine in C, see
 *                               dynamo_engine_entry();
 *                     "model"   folder or file of the model; or "hf:org/name", "hf:org/name:Q4_K_M", or
 *                               "hf:org/name@revision" of the Hugging Face Hub, which is downloaded unless the
 *                               Hugging Face cache has it; if absent, the engine's default;
 *                     "offline" true: downloads nothing;
 *                     "device"  "auto" (default), "cpu", "cuda", "cuda:1", "metal": where the engine computes;
 *                     "options" object of settings that the engine defines;
 *                     "media"   files and hosts whose images and audio requests may name, and limits on them;
 *                     "cluster" the NVIDIA Dynamo cluster that the engine "dynamo" connects to;
 *                     "name"    the name that requests give as "model";
 *                     "models"  several models instead of the keys above: an array of objects with "name", "engine",
 *                               "model", "options";
 *                     "limits"  {"max_concurrent": requests, "max_queued": requests, "max_tokens": tokens in
 *                               flight, "first_token_ms", "total_ms": deadlines, "request": what one request may
 *                               cost (docs/configuration.md)};
 *                     "stream"  {"capacity": tokens, "when_full": "block" or "fail"};
 *                     "python"  {"executable": interpreter, "path": [folders]}.
 * Blocking:  until the model is downloaded and loaded. In a program that runs Python it acquires the GIL once; if the
 *            caller holds the GIL, it is released meanwhile.
 * @return the runtime, or NULL: INVALID_JSON, INVALID_CONFIG, ENGINE_NOT_FOUND, ENGINE_UNAVAILABLE,
 *         MODEL_NOT_FOUND, PYTHON_UNAVAILABLE, ENGINE_FAILED, UNAVAILABLE (the model cannot be downloaded now),
 *         VERSION_MISMATCH, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_runtime_t *dynamo_runtime_create(const char *config_json);

/**
 * Releases a runtime. Requests in flight continue to their end, and the engine stops after the last of them.
 * (Destroying a request cancels it.)
 * Blocking: if no request is in flight, until the engine has stopped, at most 10 seconds.
 */
DYNAMO_LLM_API void dynamo_runtime_destroy(dynamo_runtime_t *runtime);

/**
 * Shuts a runtime down: accepts no more requests, waits for those in flight, cancels the remaining ones when the
 * time is up, and then stops the engine. The handle stays valid until dynamo_runtime_destroy(); sending to it fails
 * with DYNAMO_ERROR_CLOSED. May be called more than once.
 *
 * @param timeout_ms  milliseconds to wait for requests in flight; -1 for no limit, 0 cancels them at once
 * Blocking: up to timeout_ms, plus at most 10 seconds for the engine to stop.
 * @return DYNAMO_OK: all requests ended by themselves, and the engine stopped;
 *         DYNAMO_ERROR_DEADLINE_EXCEEDED: some were cancelled, or the engine has not stopped yet (the message states
 *         which); INVALID_HANDLE; INVALID_ARGUMENT; INVALID_STATE (called on a thread that it would
 *         wait for, see docs/threads.md; the runtime continues as before)
 */
DYNAMO_LLM_API int32_t dynamo_runtime_shutdown(dynamo_runtime_t *runtime, int64_t timeout_ms);

/**
 * Returns counters since the runtime was created, as a JSON object:
 *
 *     {"engine": "echo",
 *      "requests": {"sent": n, "queued": n, "in_flight": n, "ended": n, "cancelled": n, "failed": n},
 *      "tokens": {"pushed": n, "received": n},
 *      "streams": {"full": n}}
 *
 * "queued" counts requests that wait for a slot ("limits"); "in_flight" those that the engine has not finished with
 * yet; "ended", "cancelled", and "failed" count terminal events; "streams.full" counts how often an engine found a
 * stream full.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_runtime_statistics(dynamo_runtime_t *runtime);

/**
 * Returns the models of a runtime, as OpenAI's list of models:
 *
 *     {"object": "list", "data": [
 *       {"id": the value of "model" in requests, "object": "model", "created": seconds since 1970,
 *        "owned_by": "dynamo-llm", "engine": its name, "path": folder or file,
 *        "device": where the engine computes, such as "cuda:1",
 *        "kind": "tokens" or "data" if requests carry token ids or payloads instead of OpenAI bodies,
 *        "context_length": tokens, "capabilities": ["chat", "completion", ...], "adapters": [names],
 *        "request_keys": [keys], "calls": [names for dynamo_runtime_call()]}]}
 *
 * The keys from "path" on are as the engine reports them, and may be missing.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_runtime_models(dynamo_runtime_t *runtime);

/**
 * Returns metrics since the runtime was created, in Prometheus' text format (version 0.0.4), for the program to
 * serve or write. docs/metrics.md lists the names.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_runtime_metrics(dynamo_runtime_t *runtime);

/**
 * Calls a control function of an engine, such as "load_adapter", "sleep", or "reset_prefix_cache", and waits for its
 * result. "calls" of a model, see dynamo_runtime_models(), lists the names that its engine has; docs/recipe-calls.md describes
 * the usual ones with their arguments.
 *
 * A call is independent of requests: it waits for no slot of "limits", and does not count in statistics and metrics.
 * What it means for requests in flight is the engine's decision.
 *
 * @param name            name of the call
 * @param arguments_json  a JSON object; "{}" if the call has no arguments. If the runtime has several models, "model"
 *                        names the one that is meant, as in a request, else it is the first; the engine does not get
 *                        this key.
 * @param timeout_ms      milliseconds to wait; -1 for no limit. When they have passed, the engine is told that the
 *                        result is unwanted. The call may take effect nevertheless.
 * Blocking:  until the engine has answered, up to timeout_ms. dynamo_runtime_shutdown() ends the wait as it ends a
 *            request, and dynamo_runtime_destroy() does not.
 * @return the result, JSON text; or NULL: INVALID_HANDLE, INVALID_ARGUMENT, INVALID_JSON, NOT_SUPPORTED (the engine does
 *         not have this call; the message lists those that it has), INVALID_REQUEST (the engine refuses the
 *         arguments), MODEL_NOT_FOUND, DEADLINE_EXCEEDED (timeout_ms), CANCELLED and CLOSED (the runtime was shut down),
 *         ENGINE_FAILED, INVALID_STATE (it would wait for the calling thread), OUT_OF_MEMORY, or another status of the
 *         engine
 */
DYNAMO_LLM_API char *dynamo_runtime_call(dynamo_runtime_t *runtime, const char *name,
                                         const char *arguments_json, int64_t timeout_ms);

/**
 * Returns the JSON Schema (draft 2020-12) of the configuration. NULL only with OUT_OF_MEMORY.
 * Ownership: static.
 */
DYNAMO_LLM_API const char *dynamo_config_schema(void);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Creation
 * Starting an engine takes from milliseconds to minutes. dynamo_runtime_create_async() starts it in a thread of the
 * library, and reports its progress, and then the runtime, to a callback. */
/** @{ */

/** A runtime that is being created. Opaque. */
typedef struct dynamo_creation_t dynamo_creation_t;

/** What the creation of a runtime does at present. */
typedef struct dynamo_progress_t {
    /** sizeof(dynamo_progress_t), set by whoever fills it. */
    size_t struct_size;
    /** What is being done: "engine" (the library finds and prepares the engine; for one in Python, it starts Python and
     * imports the engine), and then what the engine reports: usually "download", "weights", "tokenizer", "warmup".
     * Treat an unknown phase as a text to show. */
    const char *phase;
    /** Bytes that have been read or downloaded in this phase. */
    uint64_t bytes_done;
    /** Their total; 0 if it is not known. */
    uint64_t bytes_total;
    /** How much of this phase is done, from 0 to 1; -1 if it is not known. */
    double fraction;
    /** Name of the model, as in "name" of the configuration; "" if it has none. */
    const char *model;
} dynamo_progress_t;

/** An event of a creation. */
typedef struct dynamo_creation_event_t {
    /** Size of the struct that the library filled. Later versions may add members at the end. */
    size_t struct_size;
    /** DYNAMO_PENDING: there was progress. Otherwise it is the final event: DYNAMO_OK with the runtime, or the error
     * that dynamo_runtime_create() would have returned, or DYNAMO_ERROR_CANCELLED. */
    int32_t status;
    /** With DYNAMO_PENDING the progress, otherwise NULL. */
    const dynamo_progress_t *progress;
    /** With DYNAMO_OK the runtime, which the callback owns: dynamo_runtime_destroy(). Otherwise NULL. */
    dynamo_runtime_t *runtime;
    /** With an error its message, otherwise NULL. */
    const char *error;
    /** With an error its details, as dynamo_last_error_json(), otherwise NULL. */
    const char *error_json;
} dynamo_creation_event_t;

/**
 * Receives the events of a creation: any number with DYNAMO_PENDING, then exactly one final event. The library's
 * callback thread makes the calls, under the rules of dynamo_response_callback_t. If it is late, it gets only the
 * latest progress of a phase. If it throws an exception, the creation is cancelled; a runtime that it has just got is
 * destroyed.
 *
 * @param user   as passed to dynamo_runtime_create_async()
 * @param event  valid during the call
 */
typedef void (*dynamo_creation_callback_t)(void *user, const dynamo_creation_event_t *event);

/**
 * Starts an engine and loads its model, like dynamo_runtime_create(), without waiting: the calling thread neither
 * searches for Python, nor starts it, nor acquires the GIL. It may be called on an event loop and in a callback.
 *
 * @param config_json  as for dynamo_runtime_create()
 * @param callback     receives the events, possibly before this function has returned
 * @param user         passed to the callback
 * @param release      called exactly once when no more events will follow: after the final event, or, if the creation
 *                     is destroyed before that, after the event that is being delivered (there is no final event
 *                     then); may be NULL
 * @return the creation; or NULL, and then neither callback is called: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG,
 *         SYSTEM, OUT_OF_MEMORY. All other errors of dynamo_runtime_create() come in the final event.
 */
DYNAMO_LLM_API dynamo_creation_t *dynamo_runtime_create_async(const char *config_json,
                                                              dynamo_creation_callback_t callback,
                                                              void *user,
                                                              dynamo_release_callback_t release);

/**
 * Ends a creation with DYNAMO_ERROR_CANCELLED. For the caller this takes effect at once: the final event is the next
 * one. The engine is told, and stops loading as soon as it can; what it has loaded by then is freed. Has no effect
 * after the end: then the final event brings the runtime or the error.
 *
 * @return DYNAMO_OK or INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_creation_cancel(dynamo_creation_t *creation);

/**
 * Waits until the creation delivers no more events: the callback has returned from the final event, or another thread
 * has destroyed the creation. In both cases the release callback has returned, too. Several threads may wait. The final
 * event tells whether there is a runtime.
 *
 * Blocking: until then, at most timeout_ms.
 *
 * @param timeout_ms  how long to wait, in milliseconds; 0 does not wait, -1 waits without a limit
 * @return DYNAMO_OK; DYNAMO_PENDING (the timeout passed); INVALID_STATE (it would wait for the calling thread: in a
 *         callback of the library, in the start function of the engine that is being started, on the library's
 *         event loop, or with Python's GIL held), INVALID_ARGUMENT (the timeout), INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_creation_wait(dynamo_creation_t *creation, int64_t timeout_ms);

/** Cancels and releases a creation; no more events follow. A runtime that was not delivered yet is destroyed; one that
 * was delivered is not affected. */
DYNAMO_LLM_API void dynamo_creation_destroy(dynamo_creation_t *creation);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Request
 * A request object is one run: it is created, sent once, received from until its terminal event, and destroyed. Its
 * stream is bounded, see "stream" in the configuration. */
/** @{ */

/** A request and its stream of responses. Opaque. */
typedef struct dynamo_request_t dynamo_request_t;
/** A part of an answer. Opaque. Freed with dynamo_free(). */
typedef struct dynamo_response_t dynamo_response_t;

/**
 * Creates a request from a body of OpenAI's API, or from one that reranks, scores, or classifies texts (docs/requests.md).
 *
 * @param request_json  a JSON object: a chat body ("messages"), a completion body ("prompt"), an embedding body
 *                      ("input"), a Responses body ("input", and "task": "respond"), or one of the other kinds of
 *                      docs/requests.md. Unlike OpenAI's, a body without "stream" streams. With "stream": false the whole
 *                      answer comes as one response with all choices, whose size the capacity of the stream does
 *                      not limit. "extra" is an object that reaches the engine unchanged. A key that neither the
 *                      library knows nor any engine of this process declares ("request_keys" of describe()) is an
 *                      error that names the nearest known key. A key that only other engines declare is the
 *                      same error in dynamo_request_send().
 * @return the request, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_request_t *dynamo_request_create(const char *request_json);

/** Kind of a payload. */
typedef enum dynamo_data_kind_t {
    /** A JSON text. */
    DYNAMO_DATA_JSON = 1,
    /** Any bytes. */
    DYNAMO_DATA_BYTES = 2
} dynamo_data_kind_t;

/** The payload of a raw request, or one of the payloads of its answer. This struct never grows. */
typedef struct dynamo_data_t {
    /** The bytes. In what the library returns, a NUL follows that `length` does not count. */
    const void *bytes;
    /** Number of bytes. */
    size_t length;
    /** A dynamo_data_kind_t. */
    int32_t kind;
} dynamo_data_t;

/**
 * Creates a raw request: a payload instead of an OpenAI body, for an endpoint of a cluster, or an engine that has
 * generate_data(). Its answer consists of payloads, in order, each delivered whole, see dynamo_response_item(). A
 * response has all payloads that had arrived when it was received, and neither text, token ids, nor finish reason. In
 * the capacity of a stream, a payload counts as one token. If the runtime has several models ("models" in the
 * configuration), the first one gets the request.
 *
 * @param kind    DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES
 * @param data    the payload; may be NULL if length is 0
 * @param length  number of bytes
 * @return the request, or NULL: INVALID_ARGUMENT, INVALID_JSON, OUT_OF_MEMORY. An engine that does not take raw
 *         requests refuses it when it is sent, or later in its stream: NOT_SUPPORTED.
 */
DYNAMO_LLM_API dynamo_request_t *dynamo_request_create_data(int32_t kind, const void *data,
                                                            size_t length);

/**
 * Sets the deadlines of a request, counted from dynamo_request_send(). When a deadline passes, the request ends with
 * DYNAMO_ERROR_DEADLINE_EXCEEDED. Call this before dynamo_request_send().
 *
 * @param first_token_ms  milliseconds until the first part of the answer has arrived; -1 for no limit
 * @param total_ms        milliseconds until the end; -1 for no limit
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (0, or less than -1), INVALID_STATE (already sent)
 */
DYNAMO_LLM_API int32_t dynamo_request_set_deadlines(dynamo_request_t *request,
                                                    int64_t first_token_ms, int64_t total_ms);

/**
 * Sends a request to a runtime. Does not wait for the engine. After an error the request is as before and may be
 * sent again, unless it was cancelled. If the request has to wait for a slot ("limits" of the configuration), an
 * error that the engine would have returned here ends the request later.
 *
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_STATE (sent before), CLOSED, CANCELLED, MODEL_NOT_FOUND (the runtime does
 *         not have this model), OVERLOADED ("limits" do not allow one more), SYSTEM, INVALID_REQUEST (a key that
 *         the engine does not declare), OUT_OF_MEMORY, or an error of the engine: INVALID_REQUEST, NOT_SUPPORTED,
 *         OVERLOADED, UNAVAILABLE, ...
 */
DYNAMO_LLM_API int32_t dynamo_request_send(dynamo_runtime_t *runtime, dynamo_request_t *request);

/**
 * Ends a request with DYNAMO_ERROR_CANCELLED. For the caller this takes effect at once: everything that had arrived
 * can still be received, and nothing more arrives; the engine is notified. Has no effect after the end, or
 * when called again. Before dynamo_request_send(), it makes sending fail with DYNAMO_ERROR_CANCELLED.
 *
 * @return DYNAMO_OK or INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_request_cancel(dynamo_request_t *request);

/**
 * Returns the state of a request: DYNAMO_PENDING before its end; after it DYNAMO_END, or the error that ended it,
 * whether or not everything has been received. INVALID_HANDLE if it is not a request.
 */
DYNAMO_LLM_API int32_t dynamo_request_status(dynamo_request_t *request);

/**
 * Returns the message of the error that ended a request.
 * @return the text, or NULL: no error so far (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_request_error(dynamo_request_t *request);

/**
 * Returns the details of the error that ended a request, as a JSON object like that of dynamo_last_error_json().
 * @return the text, or NULL: no error so far (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_request_error_json(dynamo_request_t *request);

/**
 * Returns the id of a request, which also appears in logs, errors, and the JSON of responses: "req-" and 16 hexadecimal
 * digits, unique in this process.
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_request_id(dynamo_request_t *request);

/** Token counts of a request. */
typedef struct dynamo_usage_t {
    /** sizeof(dynamo_usage_t), set by the caller. The library reads or fills no more than that. */
    size_t struct_size;
    /** Tokens of the prompt. */
    uint64_t prompt_tokens;
    /** Tokens of the answer, all choices together. */
    uint64_t completion_tokens;
    /** Those of prompt_tokens that came from a prefix cache. */
    uint64_t cached_tokens;
} dynamo_usage_t;

/**
 * Gets the token counts of a request so far, also after it was cancelled, its deadline passed, or it failed.
 *
 * At the end of an answer they are those that the engine reported, as in dynamo_response_usage(). Until then, and if
 * the answer does not come to its end, completion_tokens counts what the engine pushed before the request ended, and
 * prompt_tokens and cached_tokens are 0, which means that they are not known. A chunk of an engine that does not state
 * its number of tokens counts as one token.
 * @param usage  filled; set usage->struct_size before
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_request_usage(dynamo_request_t *request, dynamo_usage_t *usage);

/** Timestamps of a request, in microseconds since dynamo_request_send(); -1 for what has not happened. */
typedef struct dynamo_timing_t {
    /** sizeof(dynamo_timing_t), set by the caller. The library fills no more than that. */
    size_t struct_size;
    /** The engine began to work on the request. Until then, it waited for a slot ("limits"), and after that in the
     * engine's own queue, if the engine reports that: see dynamo_stream_set_queued(). */
    int64_t queue_us;
    /** The engine pushed the first part of the answer. */
    int64_t first_token_us;
    /** The request ended. */
    int64_t total_us;
} dynamo_timing_t;

/**
 * Gets the timestamps of a request so far, also after it was cancelled, its deadline passed, or it failed.
 * @param timing  filled; set timing->struct_size before
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_request_timing(dynamo_request_t *request, dynamo_timing_t *timing);

/** Cancels and releases a request. Threads that wait in dynamo_request_recv() return with DYNAMO_ERROR_CANCELLED. */
DYNAMO_LLM_API void dynamo_request_destroy(dynamo_request_t *request);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Receiving
 * How a program gets the answer of a request; it chooses for each request. Without a callback or a queue it calls
 * dynamo_request_recv() or dynamo_request_next(), with dynamo_request_fd() or dynamo_request_notify() to learn when.
 * The events and their order are the same in every delivery mode. */
/** @{ */

/**
 * Waits for the next part of the answer, and returns everything that has arrived since the last call. After the end it
 * returns the end again, as often as it is called.
 *
 * Threads:   several threads may receive from one request; each response goes to one of them.
 * Blocking:  until something has arrived. dynamo_request_cancel() and dynamo_request_destroy() end the wait. Log
 *            callbacks may call it.
 * @return the response, or NULL: dynamo_last_status() is DYNAMO_END after the whole answer; otherwise it is the
 *         error that ended the request (everything before it was delivered first), INVALID_HANDLE, or INVALID_STATE
 *         (not sent, has a callback or a queue, or called on a thread that it would wait for; the request
 *         continues as before)
 */
DYNAMO_LLM_API dynamo_response_t *dynamo_request_recv(dynamo_request_t *request);

/**
 * Does the same as dynamo_request_recv(), with a timeout.
 *
 * @param timeout_ms  milliseconds to wait; -1 for no limit, 0 to poll
 * @param out         receives the response with DYNAMO_OK, otherwise NULL
 * Blocking:  up to timeout_ms. Log callbacks may call it.
 * @return DYNAMO_OK, DYNAMO_PENDING (nothing arrived), DYNAMO_END, or as dynamo_request_recv()
 */
DYNAMO_LLM_API int32_t dynamo_request_next(dynamo_request_t *request, int64_t timeout_ms,
                                           dynamo_response_t **out);

/**
 * Returns a file descriptor for poll, epoll, kqueue, or an event loop. It is readable while dynamo_request_next() with
 * a timeout of 0 would not return DYNAMO_PENDING, so also after the end (level-triggered). While it is not readable,
 * there is nothing to do. Only wait for it; do not read, write, or close it.
 *
 * Ownership: the request's; closed by dynamo_request_destroy(), so remove it from the event loop before.
 * @return the descriptor, or -1: INVALID_HANDLE, INVALID_STATE (not sent, or has a callback or a queue), SYSTEM,
 *         NOT_SUPPORTED (platforms without descriptors)
 */
DYNAMO_LLM_API int dynamo_request_fd(dynamo_request_t *request);

/**
 * Tells that dynamo_request_next() is worth calling again.
 *
 * @param user  as passed to dynamo_request_notify()
 */
typedef void (*dynamo_ready_callback_t)(void *user);

/**
 * Requests one call of a callback, as soon as dynamo_request_next() with a timeout of 0 would not return
 * DYNAMO_PENDING: possibly at once, and at the latest when the request ends or is destroyed. This is for coroutines and
 * event loops that cannot wait for a descriptor: the stream stays bounded, and no thread waits. The library's callback
 * thread makes the call, under the rules of dynamo_response_callback_t. If another thread has received meanwhile,
 * there may be nothing left.
 *
 * @param callback  called exactly once for each call of this function that returns DYNAMO_OK
 * @param user      passed to the callback; needed until the callback has returned
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL callback), INVALID_STATE (not sent, has a callback or a
 *         queue, or an earlier requested call is still outstanding), SYSTEM; on an error the callback is not called
 */
DYNAMO_LLM_API int32_t dynamo_request_notify(dynamo_request_t *request,
                                             dynamo_ready_callback_t callback, void *user);

/**
 * Receives the events of a request: responses with DYNAMO_OK, in order, then exactly one terminal event without a
 * response. One thread of the library makes all such calls of a process, one at a time: while a callback runs,
 * the others wait. It may destroy its own request.
 *
 * @param user      as passed to dynamo_request_set_callback()
 * @param request   the request; a stale handle if it has been destroyed meanwhile
 * @param response  NULL in the terminal event; otherwise the callback owns it and frees it with dynamo_free()
 * @param status    DYNAMO_OK with a response; in the terminal event DYNAMO_END, or the error, which
 *                  dynamo_request_error() explains
 */
typedef void (*dynamo_response_callback_t)(void *user, dynamo_request_t *request,
                                           dynamo_response_t *response, int32_t status);

/**
 * Delivers the events of a request to a callback. dynamo_request_recv(), dynamo_request_next(), and
 * dynamo_request_fd() then fail with DYNAMO_ERROR_INVALID_STATE. Call this before dynamo_request_send().
 *
 * @param callback  receiver
 * @param user      passed to the callback
 * @param release   called exactly once when no more events will follow: after the terminal event, or, if the request is
 *                  destroyed before that, after the event that is being delivered (there is no terminal event
 *                  then); may be NULL
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL callback), INVALID_STATE (already sent, or it has a
 *         callback or a queue); on an error, `release` is not called
 */
DYNAMO_LLM_API int32_t dynamo_request_set_callback(dynamo_request_t *request,
                                                   dynamo_response_callback_t callback, void *user,
                                                   dynamo_release_callback_t release);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Response
 * A response is everything that had arrived of one choice of the answer when it was received. It is immutable and
 * outlives its request. What the functions of this section return is valid until the response is freed.
 *
 * Two kinds of responses are not part of one choice. With "stream": false there is one response: its text, token ids,
 * and finish reason are those of the first choice, and dynamo_response_json() has all choices. With "stream_options":
 * {"include_usage": true} the last response of a stream has only the token counts: no text, no token ids, no finish
 * reason, index 0. */
/** @{ */

/**
 * Returns the text, or "" if there is none. It never splits a code point; bytes of an engine that are not valid UTF-8
 * are replaced by U+FFFD.
 * @param length  receives the length in bytes without the NUL; may be NULL
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_response_text(const dynamo_response_t *response, size_t *length);

/**
 * Returns the token ids, if the engine provides them.
 * @param count  receives their number; may be NULL
 * @return the first one, or NULL: none (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const uint32_t *dynamo_response_token_ids(const dynamo_response_t *response,
                                                         size_t *count);

/** Returns the number of the choice that the response is part of, from 0. It is not 0 only if the request's "n" is
 * greater than 1, or its "prompt" has several prompts: choice i of prompt p has the number p * n + i. Returns 0,
 * with the last status INVALID_HANDLE, if it is not a response. */
DYNAMO_LLM_API uint32_t dynamo_response_index(const dynamo_response_t *response);

/**
 * Returns why the choice ended: "stop", "length", "tool_calls", "content_filter". Nothing of the choice follows.
 * @return the text, or NULL: this is not the last response of its choice (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_response_finish_reason(const dynamo_response_t *response);

/**
 * Gets the token counts of the whole request. The last response has them if the engine counts, whatever
 * "stream_options" says.
 * @param usage  filled; set usage->struct_size before
 * @return DYNAMO_OK, DYNAMO_PENDING (not in this response), INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_usage(const dynamo_response_t *response,
                                             dynamo_usage_t *usage);

/**
 * Gets the timestamps of the request. Only the very last response has them.
 * @param timing  filled; set timing->struct_size before
 * @return DYNAMO_OK, DYNAMO_PENDING (not in this response), INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_timing(const dynamo_response_t *response,
                                              dynamo_timing_t *timing);

/**
 * Returns the response as OpenAI's JSON: a chat.completion.chunk, text_completion, or {"events": [...]}; with "stream":
 * false a chat.completion or text_completion with all choices, or a response; for embeddings and scores a
 * list; for raw requests {"items": [...]}, with bytes as {"base64": "..."}. It is built at the first call.
 *
 * "usage" is in the last chunk of a stream; with {"include_usage": true} in a chunk of its own with "choices": [], and
 * null in the others; with {"include_usage": false} nowhere. If the body's "nvext" has {"extra_fields": ["timing"]},
 * the last chunk has "nvext": {"timing": {"queue_ms": n, "first_token_ms": n, "total_ms": n}}.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API const char *dynamo_response_json(dynamo_response_t *response);

/** Returns the number of payloads in a response: 0 for a response to an OpenAI body, and with INVALID_HANDLE. */
DYNAMO_LLM_API size_t dynamo_response_item_count(const dynamo_response_t *response);

/**
 * Gets a payload of a response to a raw request.
 *
 * @param index  from 0; less than dynamo_response_item_count()
 * @param item   receives the payload
 * Ownership: the bytes are the response's; valid until it is freed.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_item(const dynamo_response_t *response, size_t index,
                                            dynamo_data_t *item);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Values of a response
 * Tool calls, reasoning, log-probs, and embeddings of a response, without JSON. The count of what a response does not
 * have is 0, which is not an error; an index that is not less than the count is DYNAMO_ERROR_INVALID_ARGUMENT. Of a
 * response with several choices ("stream": false and "n"), these are the values of the first one. */
/** @{ */

/** A tool call that the model requests. */
typedef struct dynamo_tool_call_t {
    /** sizeof(dynamo_tool_call_t), set by the caller. The library fills no more than that. */
    size_t struct_size;
    /** Identifies the call: see dynamo_chat_add_tool_result(). "" if the engine has none. */
    const char *id;
    /** Name of the tool. */
    const char *name;
    /** Arguments as the model wrote them: JSON, unless the answer was cut off. dynamo_json_create() reads them. */
    const char *arguments;
} dynamo_tool_call_t;

/**
 * Returns the number of tool calls. In a stream, the last response of a choice, which has its finish reason, has all
 * calls of the choice, complete; the responses before it have none. Returns 0, with the last status INVALID_HANDLE, if
 * it is not a response.
 */
DYNAMO_LLM_API size_t dynamo_response_tool_call_count(const dynamo_response_t *response);

/**
 * Gets a tool call.
 *
 * @param index  from 0; less than dynamo_response_tool_call_count()
 * @param call   filled; set call->struct_size before
 * Ownership: the texts are the response's; valid until it is freed.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_tool_call(const dynamo_response_t *response, size_t index,
                                                 dynamo_tool_call_t *call);

/**
 * Returns the reasoning that the engine separated from the text, or "" if there is none. In a stream, this is the part
 * that belongs to this response.
 * @param length  receives the length in bytes without the NUL; may be NULL
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_response_reasoning(const dynamo_response_t *response,
                                                     size_t *length);

/** The log-probability of a token of the answer, or of an alternative to it. */
typedef struct dynamo_logprob_t {
    /** sizeof(dynamo_logprob_t), set by the caller. The library fills no more than that. */
    size_t struct_size;
    /** Text of the token; "" if the engine does not report it. A token that is not text by itself, such as a part of
     * a code point, is named as the engine names it. */
    const char *text;
    /** Length of the text in bytes. */
    size_t text_length;
    /** Natural logarithm of the probability; NaN if the engine does not report it. */
    double logprob;
    /** Token id; -1 if it is unknown. */
    int64_t token_id;
    /** Number of alternatives; 0 for an alternative. */
    size_t alternative_count;
} dynamo_logprob_t;

/** Returns the number of tokens of the response that have log-probs: 0 if the request did not ask for them
 * ("logprobs"). Returns 0, with the last status INVALID_HANDLE, if it is not a response. */
DYNAMO_LLM_API size_t dynamo_response_logprob_count(const dynamo_response_t *response);

/**
 * Gets the log-probability of a token of the answer.
 *
 * @param token    from 0; less than dynamo_response_logprob_count()
 * @param logprob  filled; set logprob->struct_size before
 * Ownership: the text is the response's; valid until it is freed.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_response_logprob(const dynamo_response_t *response, size_t token,
                                               dynamo_logprob_t *logprob);

/**
 * Gets one of the most likely tokens in place of a token ("top_logprobs"), most likely first. The token of the answer
 * may be among them.
 *
 * @param token        from 0; less than dynamo_response_logprob_count()
 * @param alternative  from 0; less than alternative_count of the token
 * @param logprob      filled; set logprob->struct_size before
 * Ownership: the text is the response's; valid until it is freed.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_response_alternative(const dynamo_response_t *response, size_t token,
                                                   size_t alternative, dynamo_logprob_t *logprob);

/** Returns the number of vectors of an answer to an embedding body: 0 for other answers. Returns 0, with the last
 * status INVALID_HANDLE, if it is not a response. */
DYNAMO_LLM_API size_t dynamo_response_embedding_count(const dynamo_response_t *response);

/**
 * Returns a vector of an answer to an embedding body. The vectors are in the order of the inputs, also with
 * "encoding_format": "base64".
 *
 * @param index       from 0; less than dynamo_response_embedding_count()
 * @param dimensions  receives the number of elements; may be NULL
 * @return the first element, or NULL: INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API const float *dynamo_response_embedding(const dynamo_response_t *response,
                                                      size_t index, size_t *dimensions);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Chat
 * Builds the body of a chat, and keeps its messages from turn to turn. The library writes the JSON: texts need no
 * quoting, and a text that is not UTF-8 is DYNAMO_ERROR_INVALID_ARGUMENT. The values of keys are checked when a request
 * is created from the chat. */
/** @{ */

/** A chat: messages, tools, and other keys of the body. Opaque. */
typedef struct dynamo_chat_t dynamo_chat_t;

/**
 * Creates a chat without messages.
 * @return the chat, or NULL: OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_chat_t *dynamo_chat_create(void);

/** Releases a chat. Requests that were created from it are not affected. */
DYNAMO_LLM_API void dynamo_chat_destroy(dynamo_chat_t *chat);

/**
 * Adds a message.
 *
 * @param role     "system", "user", "assistant", or another role of the model's chat template
 * @param content  the text
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL, not UTF-8, or an empty role), OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_message(dynamo_chat_t *chat, const char *role,
                                               const char *content);

/**
 * Adds a message as a JSON object, such as one with URLs of images.
 *
 * @param message_json  an object with "role" and "content"
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (not an object), INVALID_JSON, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_message_json(dynamo_chat_t *chat, const char *message_json);

/**
 * Adds an image or audio to the last message, which was added with dynamo_chat_add_message(). It precedes that
 * message's text, and follows what was added before. The engine checks whether the model takes the type.
 *
 * @param type  "image/png", "image/jpeg", "image/gif", "image/webp", "audio/wav", "audio/mp3", or another type of an
 *              image or of audio
 * @param data  content of the file
 * @param size  size of the data in bytes; at least 1
 * Ownership: the data is copied, as base64.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL, no data, or another type), INVALID_STATE (the last message
 *         was not added with dynamo_chat_add_message()), OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_media(dynamo_chat_t *chat, const char *type,
                                             const void *data, size_t size);

/**
 * Adds the model's answer as a message, with its tool calls, so that the chat can continue. Reasoning is included if
 * the answer has tool calls, because a model continues it after their results. Of a whole answer, this is the first
 * choice. Of a stream, add all responses of one choice, in order; they become one message. Responses with nothing but
 * token counts are ignored.
 *
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (not an answer to a chat body), INVALID_STATE (the response
 *         continues an answer that is not the last message), OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_answer(dynamo_chat_t *chat,
                                              const dynamo_response_t *response);

/**
 * Adds the result of a tool call, for the model to read.
 *
 * @param tool_call_id  id of the call, see dynamo_tool_call_t
 * @param content       the result
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL, or not UTF-8), OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_tool_result(dynamo_chat_t *chat, const char *tool_call_id,
                                                   const char *content);

/**
 * Adds a tool that the model may call.
 *
 * @param name             name of the tool; no other tool of the chat has it
 * @param description      what the tool does, for the model; may be NULL
 * @param parameters_json  a JSON Schema of type "object"; NULL for a tool without parameters, or for one whose
 *                         parameters are added with dynamo_chat_add_parameter()
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL or empty name, not UTF-8, a second tool of this name, or
 *         not an object), INVALID_JSON, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_tool(dynamo_chat_t *chat, const char *name,
                                            const char *description, const char *parameters_json);

/**
 * Adds a parameter to a tool.
 *
 * @param tool         name of a tool that was added
 * @param name         name of the parameter; the tool has no other of this name
 * @param type         "string", "integer", "number", or "boolean"; for other types pass a schema to
 *                     dynamo_chat_add_tool()
 * @param description  what it means, for the model; may be NULL
 * @param is_required  1: every call has it; 0: calls may omit it
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_add_parameter(dynamo_chat_t *chat, const char *tool,
                                                 const char *name, const char *type,
                                                 const char *description, int32_t is_required);

/**
 * Sets a key of the body to a string, such as "model". The last value of a key counts.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL or empty key, or not UTF-8), OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_chat_set_string(dynamo_chat_t *chat, const char *key,
                                              const char *value);

/**
 * Sets a key of the body to a number, such as "temperature".
 * @return as dynamo_chat_set_string(); INVALID_ARGUMENT also for a NaN or an infinity
 */
DYNAMO_LLM_API int32_t dynamo_chat_set_number(dynamo_chat_t *chat, const char *key, double value);

/**
 * Sets a key of the body to an integer, such as "max_tokens".
 * @return as dynamo_chat_set_string()
 */
DYNAMO_LLM_API int32_t dynamo_chat_set_integer(dynamo_chat_t *chat, const char *key, int64_t value);

/**
 * Sets a key of the body to true or false, such as "logprobs".
 * @param value  0 for false
 * @return as dynamo_chat_set_string()
 */
DYNAMO_LLM_API int32_t dynamo_chat_set_boolean(dynamo_chat_t *chat, const char *key, int32_t value);

/**
 * Sets a key of the body to any value, such as "response_format". The keys "messages" and "tools" replace everything
 * that was added.
 *
 * @param value_json  a JSON text; "null" removes the key
 * @return as dynamo_chat_set_string(); INVALID_ARGUMENT also for "messages" or "tools" that are not an array of
 *         objects; INVALID_JSON
 */
DYNAMO_LLM_API int32_t dynamo_chat_set_json(dynamo_chat_t *chat, const char *key,
                                            const char *value_json);

/**
 * Returns the body as JSON, as for dynamo_request_create() and dynamo_tokenizer_apply_template().
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_chat_json(dynamo_chat_t *chat);

/**
 * Creates a request from a chat as it is now. Later changes of the chat do not affect the request.
 * @return the request, or NULL: INVALID_HANDLE, INVALID_REQUEST, INVALID_JSON (too large), OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_request_t *dynamo_request_create_chat(dynamo_chat_t *chat);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Whole answers
 * One call that sends a body and waits for the whole answer. Its request cannot be cancelled; the timeout bounds it. */
/** @{ */

/**
 * Creates a request from a body, sends it, and waits for the whole answer as one response: the body's "stream" becomes
 * false.
 *
 * @param body_json   as for dynamo_request_create()
 * @param timeout_ms  milliseconds until the end; -1 for no limit
 * Blocking:  until the answer is complete, up to timeout_ms.
 * @return the response, or NULL: the errors of dynamo_request_create() and dynamo_request_send(), the error that ended
 *         the request, such as DEADLINE_EXCEEDED, or INVALID_STATE (it would wait for the calling thread)
 */
DYNAMO_LLM_API dynamo_response_t *dynamo_runtime_complete(dynamo_runtime_t *runtime,
                                                          const char *body_json,
                                                          int64_t timeout_ms);

/**
 * Sends a chat, and waits for the whole answer, as dynamo_runtime_complete() does. The chat is not changed: add the
 * answer with dynamo_chat_add_answer().
 *
 * @param timeout_ms  milliseconds until the end; -1 for no limit
 * Blocking:  until the answer is complete, up to timeout_ms.
 * @return the response, or NULL: as dynamo_runtime_complete()
 */
DYNAMO_LLM_API dynamo_response_t *dynamo_chat_complete(dynamo_runtime_t *runtime,
                                                       dynamo_chat_t *chat, int64_t timeout_ms);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Reading JSON
 * Reads JSON texts: the arguments of a tool call, dynamo_response_json(), a payload, the body or configuration that an
 * engine gets. A value is named by its JSON pointer (RFC 6901): "" is the whole text, "/choices/0/index" a member of a
 * member, "~1" a '/' in a name, and "~0" a '~'. A value that does not exist is not an error; a text that is not a JSON
 * pointer is DYNAMO_ERROR_INVALID_ARGUMENT. */
/** @{ */

/** A JSON text that was parsed. Opaque. It never changes. */
typedef struct dynamo_json_t dynamo_json_t;

/** Type of a JSON value. */
typedef enum dynamo_json_type_t {
    /** The value does not exist. */
    DYNAMO_JSON_ABSENT = 0,
    DYNAMO_JSON_NULL = 1,
    DYNAMO_JSON_BOOLEAN = 2,
    DYNAMO_JSON_NUMBER = 3,
    DYNAMO_JSON_STRING = 4,
    DYNAMO_JSON_ARRAY = 5,
    DYNAMO_JSON_OBJECT = 6
} dynamo_json_type_t;

/**
 * Parses a JSON text.
 * @return the parsed text, or NULL: INVALID_ARGUMENT, INVALID_JSON (the message gives the position), OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_json_t *dynamo_json_create(const char *text);

/** Releases a parsed text and all of its strings. A success keeps the last error, to clean up after an error. */
DYNAMO_LLM_API void dynamo_json_destroy(dynamo_json_t *json);

/**
 * Returns the type of a value: a dynamo_json_type_t.
 * @return the type, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_json_type(const dynamo_json_t *json, const char *pointer);

/**
 * Returns a string.
 *
 * @param length  receives the length in bytes without the NUL; may be NULL
 * @return the text, or NULL: it does not exist or is not a string (last status DYNAMO_OK), INVALID_HANDLE, or
 *         INVALID_ARGUMENT
 */
DYNAMO_LLM_API const char *dynamo_json_string(const dynamo_json_t *json, const char *pointer,
                                              size_t *length);

/**
 * Returns 1 for true and 0 for false.
 *
 * @param otherwise  returned if the value does not exist or is not a boolean; also on an error
 * @return 1, 0, or `otherwise`: the last status is DYNAMO_OK, INVALID_HANDLE, or INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_json_boolean(const dynamo_json_t *json, const char *pointer,
                                           int32_t otherwise);

/**
 * Returns a number.
 *
 * @param otherwise  returned if the value does not exist or is not a number; also on an error
 * @return the number, or `otherwise`: the last status is DYNAMO_OK, INVALID_HANDLE, or INVALID_ARGUMENT
 */
DYNAMO_LLM_API double dynamo_json_number(const dynamo_json_t *json, const char *pointer,
                                         double otherwise);

/**
 * Returns an integer. Unlike a double it has all digits of a 64-bit number.
 *
 * @param otherwise  returned if the value does not exist, has another type or a fraction, or does not fit; also on an
 *                   error
 * @return the integer, or `otherwise`: the last status is DYNAMO_OK, INVALID_HANDLE, or INVALID_ARGUMENT
 */
DYNAMO_LLM_API int64_t dynamo_json_integer(const dynamo_json_t *json, const char *pointer,
                                           int64_t otherwise);

/** Returns the number of elements of an array, or of members of an object; 0 for everything else. On an error, it is 0,
 * and the last status is INVALID_HANDLE or INVALID_ARGUMENT. */
DYNAMO_LLM_API size_t dynamo_json_count(const dynamo_json_t *json, const char *pointer);

/**
 * Returns the name of a member of an object, without the escapes of a pointer. Members are sorted by name.
 *
 * @param index  from 0; less than dynamo_json_count()
 * @return the name, or NULL: INVALID_HANDLE, INVALID_ARGUMENT (not an object, or it has fewer members)
 */
DYNAMO_LLM_API const char *dynamo_json_name(const dynamo_json_t *json, const char *pointer,
                                            size_t index);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Completion queue
 * With a completion queue one thread serves many requests. Each request that was given the queue before it was sent
 * delivers its events there, in order, one event at a time, so that no request keeps the others waiting. Engines put
 * requests into the queue without a lock. */
/** @{ */

/** A completion queue, where the events of many requests arrive: see dynamo_queue_next(). Opaque. */
typedef struct dynamo_queue_t dynamo_queue_t;

/** An event of a request. */
typedef struct dynamo_event_t {
    /** sizeof(dynamo_event_t), set by the caller. The library fills no more than that. */
    size_t struct_size;
    /** The request; a stale handle if it has been destroyed meanwhile. */
    dynamo_request_t *request;
    /** As passed to dynamo_request_set_queue(). */
    void *user;
    /** The response, which the caller owns and frees with dynamo_free(). NULL in the terminal event. */
    dynamo_response_t *response;
    /** DYNAMO_OK with a response; in the terminal event DYNAMO_END, or the error, which dynamo_request_error()
     * explains. */
    int32_t status;
} dynamo_event_t;

/**
 * Creates a completion queue.
 * @return the queue, or NULL: OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_queue_t *dynamo_queue_create(void);

/**
 * Delivers the events of a request to a queue. dynamo_request_recv(), dynamo_request_next(), and dynamo_request_fd()
 * then fail with DYNAMO_ERROR_INVALID_STATE. Call this before dynamo_request_send().
 *
 * @param queue  may be destroyed before the request; its events are then dropped
 * @param user   passed back in each event
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_STATE (already sent, or has a queue or a callback)
 */
DYNAMO_LLM_API int32_t dynamo_request_set_queue(dynamo_request_t *request, dynamo_queue_t *queue,
                                                void *user);

/**
 * Waits for the next event of any request of the queue. Each request that was sent, or cancelled before it was sent,
 * has responses and then exactly one terminal event. A request that is destroyed before that has no more events.
 * A request with several responses ready takes turns with the others.
 *
 * Under load, when events come less than 100 microseconds apart, a reader that finds no event is not woken: it looks
 * again after at most a millisecond. A stream that is nearly full wakes it.
 *
 * @param timeout_ms  milliseconds to wait; -1 for no limit, 0 to poll
 * @param event       filled with DYNAMO_OK; set event->struct_size before
 * Ownership: the caller owns event->response.
 * Threads:   several threads may wait for one queue; each event goes to one of them. Two threads may then handle two
 *            events of one request at the same time; if that matters, give each thread its own queue.
 * Blocking:  up to timeout_ms. dynamo_queue_wake() and dynamo_queue_destroy() end the wait. Log callbacks may call it.
 * @return DYNAMO_OK, DYNAMO_PENDING (no event, or dynamo_queue_wake()), CLOSED (the queue was destroyed),
 *         INVALID_HANDLE, INVALID_ARGUMENT, INVALID_STATE (called on a thread that it would
 *         wait for)
 */
DYNAMO_LLM_API int32_t dynamo_queue_next(dynamo_queue_t *queue, int64_t timeout_ms,
                                         dynamo_event_t *event);

/**
 * Returns a file descriptor for poll, epoll, kqueue, or an event loop, by which one thread waits for a queue and for
 * other descriptors. It is readable while the queue has an event, and after dynamo_queue_wake() (level-triggered).
 * While it is not readable, there is nothing to do. When it is readable, call dynamo_queue_next() with a timeout of 0
 * until it returns DYNAMO_PENDING, which the first call may do: another thread may have taken the event. Only wait for
 * the descriptor; do not read, write, or close it.
 *
 * From the first call on, the first event of an empty queue costs its engine a system call.
 *
 * Ownership: the queue's; closed by dynamo_queue_destroy(), so remove it from the event loop before.
 * @return the descriptor, the same at each call, or -1: INVALID_HANDLE, SYSTEM, NOT_SUPPORTED (platforms without
 *         descriptors)
 */
DYNAMO_LLM_API int dynamo_queue_fd(dynamo_queue_t *queue);

/**
 * Makes one call of dynamo_queue_next() return DYNAMO_PENDING without an event, for a thread that has other work to do,
 * such as to end: a call that waits, or else the next one, even if an event is ready. No event is lost. Each call of
 * this function ends one call of dynamo_queue_next(), so call it once for each thread that waits. The descriptor of the
 * queue is readable until then.
 * @return DYNAMO_OK, INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_queue_wake(dynamo_queue_t *queue);

/** Releases a queue. Threads that wait for it return with DYNAMO_ERROR_CLOSED. Its requests continue, but their events
 * are dropped, so destroy them, too. */
DYNAMO_LLM_API void dynamo_queue_destroy(dynamo_queue_t *queue);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Tokenizer
 * A model's tokenizer and chat template, without the model. Python does the work, in the thread that engines in Python
 * share. A function that needs it waits without the GIL. */
/** @{ */

/** A tokenizer with its chat template. Opaque. Its detokenizers keep it alive. */
typedef struct dynamo_tokenizer_t dynamo_tokenizer_t;
/** Converts a stream of token ids into a stream of text. Opaque. */
typedef struct dynamo_detokenizer_t dynamo_detokenizer_t;

/**
 * Loads the tokenizer of a model.
 *
 * @param config_json  a JSON object; "{}" loads the tokenizer of the demo model. All keys are optional:
 *                     "model"   folder with tokenizer.json, or that file; the files next to it are used, too, above
 *                               all tokenizer_config.json with the chat template; or "hf:org/name", whose files are
 *                               downloaded unless the Hugging Face cache has them;
 *                     "offline" true: downloads nothing;
 *                     "python", "trust_request_chat_template", "templates"  as for dynamo_runtime_create().
 * Blocking:  until it is loaded. In a program that runs Python it acquires the GIL once; if the caller holds the GIL,
 *            it is released meanwhile.
 * @return the tokenizer, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, MODEL_NOT_FOUND, PYTHON_UNAVAILABLE,
 *         ENGINE_UNAVAILABLE (a Python package is missing), ENGINE_FAILED, UNAVAILABLE (it cannot be downloaded now),
 *         VERSION_MISMATCH, CLOSED, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_tokenizer_t *dynamo_tokenizer_create(const char *config_json);

/**
 * Releases a tokenizer. Its detokenizers continue to work, and calls that are running complete normally.
 * Blocking: until it is freed, at most 10 seconds, unless a detokenizer or a call still uses it.
 */
DYNAMO_LLM_API void dynamo_tokenizer_destroy(dynamo_tokenizer_t *tokenizer);

/**
 * Returns the properties of a tokenizer as a JSON object:
 *
 *     {"path": "/models/demo", "vocabulary_size": 2048, "largest_token_id": 2047,
 *      "special_tokens": {"<|end|>": 0, ...}, "bos_token_id": 1, "eos_token_ids": [0],
 *      "has_chat_template": true, "context_length": 1024}
 *
 * "vocabulary_size" includes the added tokens. "bos_token_id" and "context_length" are present if the model's files
 * specify them. "eos_token_ids" are those of generation_config.json, of config.json, and the tokenizer's own.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_tokenizer_info(dynamo_tokenizer_t *tokenizer);

/**
 * Converts a text into token ids.
 *
 * @param text                UTF-8; may contain NUL bytes, and may be NULL if length is 0
 * @param length              its length in bytes
 * @param add_special_tokens  1: adds the special tokens that the tokenizer puts around a text, such as BOS;
 *                            0: does not, as for a prompt that a chat template made. In either case, special tokens
 *                            that are written in the text become single tokens.
 * @param ids                 receives the first id; NULL on an error, and if there is none
 * @param count               receives their number
 * Blocking:  until it is done: a tenth of a millisecond, longer for long texts.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (not UTF-8, or NULL), CLOSED (Python in this process is shutting
 *         down), ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_tokenizer_encode(dynamo_tokenizer_t *tokenizer, const char *text,
                                               size_t length, int32_t add_special_tokens,
                                               uint32_t **ids, size_t *count);

/**
 * Converts token ids into a text, in the calling thread and without Python (except with a decoder that only the library
 * `tokenizers` knows). Bytes that are not valid UTF-8 are replaced by U+FFFD.
 *
 * @param ids                  may be NULL if count is 0
 * @param count                their number
 * @param skip_special_tokens  1: leaves out special tokens, such as EOS; 0: includes them
 * @param length               receives the length in bytes without the NUL; may be NULL
 * @return the text, or NULL: INVALID_HANDLE, INVALID_ARGUMENT (NULL, or an id above largest_token_id), ENGINE_FAILED,
 *         OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_tokenizer_decode(dynamo_tokenizer_t *tokenizer, const uint32_t *ids,
                                             size_t count, int32_t skip_special_tokens,
                                             size_t *length);

/**
 * Renders a chat into the prompt format that the model was trained on, with its chat template. Encode the prompt
 * without adding special tokens: the template has written them.
 *
 * @param chat_json  a chat body, as for dynamo_request_create(). These keys are used: "messages", "tools",
 *                   "chat_template" (replaces the model's: the name of another template of the model, or, if the
 *                   tokenizer was created with "trust_request_chat_template", a template), "chat_template_kwargs"
 *                   (more variables of the template), "add_generation_prompt" (default true), and
 *                   "continue_final_message" (default false).
 * @param length     receives the length in bytes without the NUL; may be NULL
 * Blocking:  until it is done, as dynamo_tokenizer_encode().
 * @return the text, or NULL: INVALID_HANDLE, INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST (not a chat, or the
 *         template rejects it), NOT_SUPPORTED (no template, or it does not support tools), CLOSED, ENGINE_FAILED,
 *         OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_tokenizer_apply_template(dynamo_tokenizer_t *tokenizer,
                                                     const char *chat_json, size_t *length);

/**
 * Creates a detokenizer, for a text that arrives token by token. It keeps the tokenizer alive.
 *
 * @param skip_special_tokens  1: leaves out special tokens, such as EOS; 0: includes them
 * @return the detokenizer, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_detokenizer_t *dynamo_detokenizer_create(dynamo_tokenizer_t *tokenizer,
                                                               int32_t skip_special_tokens);

/**
 * Adds any number of token ids to a text, and returns the text that they add. Concatenated, the returned texts are what
 * dynamo_tokenizer_decode() makes of all ids at once, including spaces between words. No returned text splits a code
 * point; an incomplete one is returned by a later call. Decodes as dynamo_tokenizer_decode().
 *
 * @param ids     may be NULL if count is 0
 * @param count   their number
 * @param length  receives the length in bytes without the NUL; may be NULL
 * Threads:   calls for one detokenizer wait for each other.
 * @return the added text, "" if there is none yet; or NULL: INVALID_HANDLE, INVALID_ARGUMENT (NULL, or an id above
 *         largest_token_id; none of the ids was added), ENGINE_FAILED, OUT_OF_MEMORY (the text has ended, and the next id
 *         begins another one)
 */
DYNAMO_LLM_API char *dynamo_detokenizer_add(dynamo_detokenizer_t *detokenizer, const uint32_t *ids,
                                            size_t count, size_t *length);

/**
 * Ends a text, and returns what was held back: an incomplete code point, as U+FFFD. The detokenizer may then be used
 * for another text.
 *
 * @param length  receives the length in bytes without the NUL; may be NULL
 * Threads:   as dynamo_detokenizer_add().
 * @return the rest of the text, usually ""; or NULL: INVALID_HANDLE, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_detokenizer_finish(dynamo_detokenizer_t *detokenizer, size_t *length);

/**
 * Releases a detokenizer.
 * Blocking: if it was the last one that kept a destroyed tokenizer alive, as dynamo_tokenizer_destroy().
 */
DYNAMO_LLM_API void dynamo_detokenizer_destroy(dynamo_detokenizer_t *detokenizer);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_H */
