/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm.h
 * @brief LLM inference from C: run requests on an engine inside this process or on a cluster.
 *
 * The whole of it in five calls:
 *
 *     dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
 *     dynamo_request_t *request = dynamo_request_create(
 *         "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a KV cache?\"}]}");
 *     dynamo_request_send(runtime, request);
 *     dynamo_response_t *response;
 *     while ((response = dynamo_request_recv(request)) != NULL) {
 *         fputs(dynamo_response_text(response, NULL), stdout);
 *         dynamo_free(response);
 *     }
 *
 * Rules that hold for every function, unless its comment says otherwise:
 *
 *  - Threads:  any thread may call it at any time, also several threads on one handle at once.
 *              It must not be called from a signal handler, and a thread must not be ended with
 *              pthread_cancel() while it is inside.
 *  - Blocking: it does not block. No function takes Python's GIL, except
 *              dynamo_runtime_create(), dynamo_tokenizer_create() and those that create a worker, a KV
 *              publisher or a router, once in a program that runs Python itself.
 *  - Handles:  a NULL, stale, foreign or wrong-type handle gives DYNAMO_ERROR_INVALID_HANDLE and
 *              never a crash. Parents may be destroyed before their children.
 *  - Strings:  UTF-8, NUL-terminated. What a function takes is copied; what it returns is owned
 *              by the handle it came from, unless the comment says that the caller owns it.
 *  - JSON:     a text that is read has at most 64 MiB and 128 levels; else it is INVALID_JSON.
 *  - Errors:   a function that returns a status returns a negative one on failure; a function that
 *              returns a pointer returns NULL. Either way dynamo_last_status() and
 *              dynamo_last_error() tell this thread what happened. A call that succeeds resets
 *              them to DYNAMO_OK.
 *  - Contract: each comment sums up what a caller must know: whether the function may block; from which
 *              callbacks it may be called ("any" are those of requests, logs and engines); and who owns what it
 *              gives ("borrowed": the object that it came from).
 *  - fork():   once a process has started a runtime, its children may not use the library: every
 *              function gives DYNAMO_ERROR_FORKED there. exec() first.
 */
#ifndef DYNAMO_LLM_H
#define DYNAMO_LLM_H

#include <stddef.h>
#include <stdint.h>

#if defined(DYNAMO_LLM_STATIC)
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
 * The ABI version is the number in the shared library's name. It changes only when a program that
 * was built against an older header could break (docs/abi.md). */
/** @{ */

/** Version of this header; a new one may break programs. */
#define DYNAMO_LLM_VERSION_MAJOR 1
/** Version of this header; a new one adds. */
#define DYNAMO_LLM_VERSION_MINOR 0
/** Version of this header; a new one repairs. */
#define DYNAMO_LLM_VERSION_PATCH 0
/** Version of this header, "MAJOR.MINOR.PATCH". */
#define DYNAMO_LLM_VERSION_STRING "1.0.0"
/** Version of the binary interface that this header describes. */
#define DYNAMO_LLM_ABI_VERSION 1

/**
 * The ABI version of the library that is loaded. Works for ever, in every version. Never fails.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API uint32_t dynamo_abi_version(void);

/**
 * The version of the library that is loaded, "MAJOR.MINOR.PATCH". Static. Never fails.
 * Contract: any thread; returns at once; from any callback; static.
 */
DYNAMO_LLM_API const char *dynamo_version_string(void);

/**
 * Checks that the loaded library serves a program built with a given header.
 * It does if the ABI version is the same and the library is not older than the header.
 *
 * @param header_abi      DYNAMO_LLM_ABI_VERSION as the program was built
 * @param header_version  DYNAMO_LLM_VERSION_STRING as the program was built
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, DYNAMO_ERROR_VERSION_MISMATCH (the message names both versions), or
 *         DYNAMO_ERROR_INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_version_check(uint32_t header_abi, const char *header_version);

/** dynamo_version_check() with the versions of this very header. */
#define DYNAMO_LLM_VERSION_CHECK() \
    dynamo_version_check(DYNAMO_LLM_ABI_VERSION, DYNAMO_LLM_VERSION_STRING)
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Status
 * 0 is success, positive is "no error, but not that either", negative is an error: one enumerator
 * for each kind of failure that a caller would treat differently. Numbers never change meaning;
 * later versions may add some, so treat an unknown negative number as an error. */
/** @{ */

/** What came of a call, or of a request. */
typedef enum dynamo_status_t {
    /** It worked. */
    DYNAMO_OK = 0,
    /** The stream ended well and everything in it was received. */
    DYNAMO_END = 1,
    /** Nothing to be had yet: the time-out passed, or the value is not known yet. */
    DYNAMO_PENDING = 2,

    /** An argument is NULL, out of range, or not UTF-8. */
    DYNAMO_ERROR_INVALID_ARGUMENT = -1,
    /** A handle is NULL, was destroyed, is of another type, or never was a handle. */
    DYNAMO_ERROR_INVALID_HANDLE = -2,
    /** The call does not fit the state of the object: sent twice, received before sent. */
    DYNAMO_ERROR_INVALID_STATE = -3,
    /** A text is no JSON; the message gives the position. */
    DYNAMO_ERROR_INVALID_JSON = -4,
    /** A key or value of a configuration is wrong; the message names it and what would be right. */
    DYNAMO_ERROR_INVALID_CONFIG = -5,
    /** A key or value of a request is wrong; the message names it and what would be right. */
    DYNAMO_ERROR_INVALID_REQUEST = -6,
    /** No engine of that name; the message lists the known ones. */
    DYNAMO_ERROR_ENGINE_NOT_FOUND = -7,
    /** The engine is known, but something it needs is not installed; the message names it. */
    DYNAMO_ERROR_ENGINE_UNAVAILABLE = -8,
    /** The model does not exist or is no model. */
    DYNAMO_ERROR_MODEL_NOT_FOUND = -9,
    /** No usable Python; the message lists where it was looked for and what to install. */
    DYNAMO_ERROR_PYTHON_UNAVAILABLE = -10,
    /** The engine failed; the detail object has its exception and traceback, if it is Python. */
    DYNAMO_ERROR_ENGINE_FAILED = -11,
    /** The request was cancelled. */
    DYNAMO_ERROR_CANCELLED = -12,
    /** A deadline passed. */
    DYNAMO_ERROR_DEADLINE_EXCEEDED = -13,
    /** More requests than the limits allow; try again later. */
    DYNAMO_ERROR_OVERLOADED = -14,
    /** Nobody there to serve the request at present; try again later. */
    DYNAMO_ERROR_UNAVAILABLE = -15,
    /** The stream was full and its policy is "fail". */
    DYNAMO_ERROR_SLOW_CONSUMER = -16,
    /** Prompt and answer do not fit the model's context length. */
    DYNAMO_ERROR_CONTEXT_LENGTH = -17,
    /** The runtime was shut down. */
    DYNAMO_ERROR_CLOSED = -18,
    /** The process was forked after the library was used; only the parent may go on. */
    DYNAMO_ERROR_FORKED = -19,
    /** No memory was left. */
    DYNAMO_ERROR_OUT_OF_MEMORY = -20,
    /** The engine or this platform cannot do that. */
    DYNAMO_ERROR_NOT_SUPPORTED = -21,
    /** Header and library, or library and Python package, do not fit together. */
    DYNAMO_ERROR_VERSION_MISMATCH = -22,
    /** The operating system refused: no threads, no file descriptors. */
    DYNAMO_ERROR_SYSTEM = -23,
    /** A bug in this library; please report it. */
    DYNAMO_ERROR_INTERNAL = -24
} dynamo_status_t;

/** The enumerator's name, "DYNAMO_ERROR_CANCELLED"; "DYNAMO_UNKNOWN_STATUS" for other numbers.
 * Static. Never fails.
 * Contract: any thread; returns at once; from any callback; static.
 */
DYNAMO_LLM_API const char *dynamo_status_name(int32_t status);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Errors
 * Each thread has its own last error, like errno. The error that ended a request is also kept by
 * the request: dynamo_request_error(). These three functions do not change the last error. */
/** @{ */

/**
 * Status of this thread's latest call. Never fails.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_last_status(void);

/**
 * Message of this thread's latest call, "" if it succeeded.
 * Ownership: the library's; valid until this thread's next call. Never fails.
 * Contract: any thread; returns at once; from any callback; borrowed.
 */
DYNAMO_LLM_API const char *dynamo_last_error(void);

/**
 * This thread's latest error as a JSON object, "{}" if the call succeeded:
 *
 *     {"status": -11, "name": "DYNAMO_ERROR_ENGINE_FAILED", "message": "...",
 *      "layer": "core" | "embed" | "engine", "engine": "mistralrs", "request_id": "req-...",
 *      "retriable": false, "fatal": false,
 *      "python": {"type": "ValueError", "traceback": "..."}}
 *
 * engine, request_id and python are there where they apply. retriable: the same call may succeed
 * later. fatal: the runtime (or, for PYTHON_UNAVAILABLE, Python in this process) will not recover.
 * Ownership: the library's; valid until this thread's next call. Never fails.
 * Contract: any thread; returns at once; from any callback; borrowed.
 */
DYNAMO_LLM_API const char *dynamo_last_error_json(void);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Memory */
/** @{ */

/**
 * Frees whatever a function of this library handed to the caller to own: responses, and strings and
 * arrays whose function says so. NULL is fine. A pointer that is not, or no longer, the caller's sets the
 * last status to DYNAMO_ERROR_INVALID_HANDLE and frees nothing.
 * Contract: any thread; returns at once; from any callback; takes its argument.
 */
DYNAMO_LLM_API void dynamo_free(void *pointer);

/** Tells the owner of a user pointer that the library will not use it again. Called exactly once
 * for each registration that succeeded, from any thread. It must not block. */
typedef void (*dynamo_release_callback_t)(void *user);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Logging
 * The library and the Python code it runs log through one callback per process. Without a callback,
 * warnings and errors go to stderr, a line each. Nothing ever goes to stdout. */
/** @{ */

/** How important a log record is. */
typedef enum dynamo_log_level_t {
    DYNAMO_LOG_TRACE = 0,
    DYNAMO_LOG_DEBUG = 1,
    DYNAMO_LOG_INFO = 2,
    DYNAMO_LOG_WARNING = 3,
    DYNAMO_LOG_ERROR = 4,
    DYNAMO_LOG_OFF = 5
} dynamo_log_level_t;

/**
 * Receives one record. Called from any thread, several at a time, never with the GIL held by the
 * library. The strings live as long as the call. It may call any function of this library; what
 * those would log is dropped. It should return soon: the thread that logs waits for it.
 *
 * @param user     as given to dynamo_log_set_callback()
 * @param level    a dynamo_log_level_t
 * @param logger   dotted name of the origin, "dynamo_llm.embed" or a Python logger's name
 * @param message  the text, without a newline at its end
 */
typedef void (*dynamo_log_callback_t)(void *user, int32_t level, const char *logger,
                                      const char *message);

/**
 * Sets where log records of at least a level go, for the whole process.
 * Python loggers follow the level from the next dynamo_runtime_create() on, so set it first.
 *
 * @param level     least level that is delivered; DYNAMO_LOG_OFF for none
 * @param callback  receiver; NULL for stderr
 * @param user      passed to the callback as it is
 * @param release   called once when the library is done with user; NULL if nobody need know
 * Ownership: user stays the caller's until release is called: once another callback is set and
 *            no call to the old one is under way any more.
 * Contract: any thread; returns at once; from any callback; borrows user.
 * @return DYNAMO_OK or DYNAMO_ERROR_INVALID_ARGUMENT (then release is not called)
 */
DYNAMO_LLM_API int32_t dynamo_log_set_callback(int32_t level, dynamo_log_callback_t callback,
                                               void *user, dynamo_release_callback_t release);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Runtime
 * A runtime is an engine with a model, ready for requests. A process may have several. */
/** @{ */

/** A runtime. Opaque; counted: requests in flight keep what is behind it alive. */
typedef struct dynamo_runtime_t dynamo_runtime_t;

/**
 * Starts an engine and loads its model.
 *
 * @param config_json  a JSON object. "{}" is the embedded default: the demo model on mistral.rs.
 *                     Keys (dynamo_config_schema() has them all with types and ranges):
 *                     "engine"  name: "mistralrs" (default), "echo", "scripted", one registered
 *                               with dynamo_engine_register(), an entry point of the Python group
 *                               "dynamo_llm.engines", or "module:Class";
 *                     "model"   directory or file of the model; engine's default if absent;
 *                     "options" object of the engine's own settings;
 *                     "cluster" the cluster of NVIDIA Dynamo that the engine "dynamo" uses;
 *                     "name"    what requests give as "model";
 *                     "models"  several models in place of these: an array of objects with "name",
 *                               "engine", "model", "options";
 *                     "limits"  {"max_concurrent": requests, "max_queued": requests, "max_tokens":
 *                               tokens in flight, "first_token_ms", "total_ms": deadlines};
 *                     "stream"  {"capacity": tokens, "when_full": "block" or "fail"};
 *                     "python"  {"executable": interpreter, "path": [folders]}.
 * Ownership: the caller owns the result; dynamo_runtime_destroy() it.
 * Blocking:  until the model is loaded. In a program that runs Python it takes the GIL once; a
 *            caller that holds the GIL has it released meanwhile.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the runtime, or NULL: INVALID_JSON, INVALID_CONFIG, ENGINE_NOT_FOUND,
 *         ENGINE_UNAVAILABLE, MODEL_NOT_FOUND, PYTHON_UNAVAILABLE, ENGINE_FAILED,
 *         VERSION_MISMATCH, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_runtime_t *dynamo_runtime_create(const char *config_json);

/**
 * Gives a runtime up. NULL is fine.
 * Requests that are in flight go on to their end; the engine is stopped when the last of them
 * ended (destroying a request cancels it).
 * Blocking: if no request is in flight, until the engine has stopped, at most 10 seconds.
 * Contract: any thread; may block; not from log callbacks; takes its argument.
 */
DYNAMO_LLM_API void dynamo_runtime_destroy(dynamo_runtime_t *runtime);

/**
 * Takes no more requests, waits for those in flight, cancels what is left when the time is up,
 * then stops the engine. The handle stays valid until dynamo_runtime_destroy(); sending to it gives
 * DYNAMO_ERROR_CLOSED. Calling it again is fine.
 *
 * @param timeout_ms  milliseconds to wait for requests in flight; -1 for ever, 0 cancels at once
 * Blocking: up to timeout_ms, and at most 10 seconds more for the engine to stop.
 * Contract: any thread; may block; not from log callbacks; hands out nothing.
 * @return DYNAMO_OK: all ended by themselves and the engine stopped;
 *         DYNAMO_ERROR_DEADLINE_EXCEEDED: some were cancelled, or the engine has not stopped yet
 *         (the message says which); INVALID_HANDLE; INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_runtime_shutdown(dynamo_runtime_t *runtime, int64_t timeout_ms);

/**
 * Counters since the runtime was created, as a JSON object:
 *
 *     {"engine": "echo",
 *      "requests": {"sent": n, "queued": n, "in_flight": n, "ended": n, "cancelled": n, "failed": n},
 *      "tokens": {"pushed": n, "received": n},
 *      "streams": {"full": n}}
 *
 * queued counts what waits for a place ("limits"), in_flight what the engine has not let go of yet; ended, cancelled and failed count terminal
 * events; streams.full how often an engine found a stream full.
 * Ownership: the caller owns the string; dynamo_free() it.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_runtime_statistics(dynamo_runtime_t *runtime);

/**
 * What a runtime serves, as OpenAI's list of models:
 *
 *     {"object": "list", "data": [
 *       {"id": name that requests give as "model", "object": "model", "created": seconds since 1970,
 *        "owned_by": "dynamo-llm", "engine": its name, "path": folder or file,
 *        "kind": what requests of an engine in C bring in place of OpenAI's bodies, "tokens" or "data",
 *        "context_length": tokens, "capabilities": ["chat", "completion", ...], "adapters": [names]}]}
 *
 * From path on the keys are what the engine says, and may be missing.
 * Ownership: the caller owns the string; dynamo_free() it.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_runtime_models(dynamo_runtime_t *runtime);

/**
 * Metrics since the runtime was created, in Prometheus' text format (version 0.0.4), for a program
 * to serve or write. docs/metrics.md has the names.
 * Ownership: the caller owns the string; dynamo_free() it.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_runtime_metrics(dynamo_runtime_t *runtime);

/**
 * JSON Schema (draft 2020-12) of the configuration. Static. NULL only with OUT_OF_MEMORY.
 * Contract: any thread; returns at once; from any callback; static.
 */
DYNAMO_LLM_API const char *dynamo_config_schema(void);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Request
 * One request object is one run: created, sent once, received from until its terminal event,
 * destroyed. Its stream is bounded: see "stream" in the configuration. */
/** @{ */

/** A request and its stream of responses. Opaque. */
typedef struct dynamo_request_t dynamo_request_t;
/** Some of an answer. Opaque; the caller owns it and frees it with dynamo_free(). */
typedef struct dynamo_response_t dynamo_response_t;

/**
 * Makes a request of an OpenAI body.
 *
 * @param request_json  a JSON object: a chat body ("messages"), a completion body ("prompt") or an
 *                      embedding body ("input"). Unknown keys are errors. Unlike OpenAI's, a body
 *                      without "stream" streams; with "stream": false the whole answer comes as one
 *                      response, whose size the stream's capacity does not limit.
 * Ownership: the caller owns the result; dynamo_request_destroy() it.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the request, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_request_t *dynamo_request_create(const char *request_json);

/** What data is. */
typedef enum dynamo_data_kind_t {
    /** A JSON text. */
    DYNAMO_DATA_JSON = 1,
    /** Any bytes. */
    DYNAMO_DATA_BYTES = 2
} dynamo_data_kind_t;

/** Data: what a request of data carries, and an item of its answer. This struct never grows. */
typedef struct dynamo_data_t {
    /** The bytes; where the library gives them, a NUL follows that is not counted. */
    const void *bytes;
    /** Their number. */
    size_t length;
    /** A dynamo_data_kind_t. */
    int32_t kind;
} dynamo_data_t;

/**
 * Makes a request of data, in place of an OpenAI body, for engines that take it: an endpoint of a
 * cluster, or an engine that has generate_data(). Its answer is items of data, in
 * order, each whole: dynamo_response_item(). A response has all that had come when it was received;
 * text, token ids and finish reason are none. In a stream's capacity an item counts as a token.
 * Of several models ("models" in the configuration) the first gets it.
 *
 * @param kind    DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES
 * @param data    length bytes; may be NULL if length is 0
 * @param length  number of bytes
 * Ownership: data is copied. The caller owns the result; dynamo_request_destroy() it.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the request, or NULL: INVALID_ARGUMENT, INVALID_JSON, OUT_OF_MEMORY. An engine that takes no
 *         data refuses it when it is sent, or in its stream: NOT_SUPPORTED.
 */
DYNAMO_LLM_API dynamo_request_t *dynamo_request_create_data(int32_t kind, const void *data,
                                                            size_t length);

/**
 * Sets the request's deadlines, counted from dynamo_request_send(). A deadline that passes ends the
 * request with DYNAMO_ERROR_DEADLINE_EXCEEDED.
 *
 * @param first_token_ms  milliseconds until something of the answer has come; -1 for none
 * @param total_ms        milliseconds until the end; -1 for none
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (0, or less than -1), INVALID_STATE
 *         (already sent)
 */
DYNAMO_LLM_API int32_t dynamo_request_set_deadlines(dynamo_request_t *request,
                                                    int64_t first_token_ms, int64_t total_ms);

/**
 * Receives a request's events. All callbacks of a process come from one library thread, one at a
 * time, a request's in order: responses with DYNAMO_OK, then exactly one terminal event without a
 * response. It may call any function of this library, dynamo_request_destroy() of its own request
 * too. While it runs, other callbacks wait.
 *
 * @param user      as given to dynamo_request_set_callback()
 * @param request   the request; if it was destroyed meanwhile, a stale handle
 * @param response  NULL in the terminal event; else the callback owns it: dynamo_free() it
 * @param status    DYNAMO_OK with a response; in the terminal event DYNAMO_END or the error, which
 *                  dynamo_request_error() explains
 */
typedef void (*dynamo_response_callback_t)(void *user, dynamo_request_t *request,
                                           dynamo_response_t *response, int32_t status);

/**
 * Has the request's events delivered to a callback in place of dynamo_request_recv(), _next() and
 * _fd(), which then give DYNAMO_ERROR_INVALID_STATE. Call it before dynamo_request_send().
 *
 * @param callback  receiver
 * @param user      passed to the callback as it is
 * @param release   called once when no event will follow: after the terminal event, or, if the
 *                  request is destroyed earlier, after the event that is under way (no terminal
 *                  event then); NULL if nobody need know
 * Ownership: user stays the caller's until release is called.
 * Contract: any thread; returns at once; from any callback; borrows user.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL callback), INVALID_STATE (already sent,
 *         or it has a callback or a queue); on an error release is not called
 */
DYNAMO_LLM_API int32_t dynamo_request_set_callback(dynamo_request_t *request,
                                                   dynamo_response_callback_t callback, void *user,
                                                   dynamo_release_callback_t release);

/**
 * Hands a request to a runtime. The call only puts it in a queue.
 * After an error the request is as before and may be sent again, unless it was cancelled.
 * If it has to wait for a place ("limits" of the configuration), what the engine would have said here
 * ends the request later.
 *
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_STATE (sent before), CLOSED, CANCELLED, MODEL_NOT_FOUND
 *         (no such model in this runtime), OVERLOADED ("limits" do not allow one more), SYSTEM,
 *         OUT_OF_MEMORY, or what the engine says: INVALID_REQUEST, NOT_SUPPORTED, OVERLOADED,
 *         UNAVAILABLE, ...
 */
DYNAMO_LLM_API int32_t dynamo_request_send(dynamo_runtime_t *runtime, dynamo_request_t *request);

/**
 * Waits for more of the answer: everything that has come since the last call.
 * After the end it gives the end again, as often as it is called.
 *
 * Ownership: the caller owns the result; dynamo_free() it.
 * Threads:   several threads may receive from one request; each response goes to one of them.
 * Blocking:  until there is something. dynamo_request_cancel() and _destroy() end the wait.
 * Contract: any thread; may block; from any callback; the caller owns what it gives.
 * @return the response, or NULL: dynamo_last_status() is DYNAMO_END after the whole answer, else
 *         the error that ended the request (what came before it was delivered first), or
 *         INVALID_HANDLE, INVALID_STATE (not sent, or has a callback or a queue)
 */
DYNAMO_LLM_API dynamo_response_t *dynamo_request_recv(dynamo_request_t *request);

/**
 * dynamo_request_recv() with a time-out.
 *
 * @param timeout_ms  milliseconds to wait; -1 for ever, 0 to poll
 * @param out         gets the response with DYNAMO_OK, else NULL
 * Ownership: the caller owns *out; dynamo_free() it.
 * Blocking:  up to timeout_ms.
 * Contract: any thread; may block; from any callback; the caller owns what it gives.
 * @return DYNAMO_OK, DYNAMO_PENDING (nothing came), DYNAMO_END, or as dynamo_request_recv()
 */
DYNAMO_LLM_API int32_t dynamo_request_next(dynamo_request_t *request, int64_t timeout_ms,
                                           dynamo_response_t **out);

/**
 * Ends a request with DYNAMO_ERROR_CANCELLED. At once for the caller: what had come before can
 * still be received, nothing more comes; the engine is told. Harmless after the end, and again. Before
 * dynamo_request_send() it makes sending fail with DYNAMO_ERROR_CANCELLED.
 *
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK or INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_request_cancel(dynamo_request_t *request);

/**
 * A file descriptor for poll, epoll, kqueue or an event loop: readable while dynamo_request_next()
 * with time-out 0 would not give DYNAMO_PENDING, so also after the end (level-triggered). Nothing
 * need be done while it is not readable. Only wait on it; do not read, write or close it.
 *
 * Ownership: the request's; closed by dynamo_request_destroy(), so take it out of the event loop
 *            first.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the descriptor, or -1: INVALID_HANDLE, INVALID_STATE (not sent, or has a callback or a queue),
 *         SYSTEM, NOT_SUPPORTED (platforms without descriptors)
 */
DYNAMO_LLM_API int dynamo_request_fd(dynamo_request_t *request);

/**
 * Tells that it is worth calling dynamo_request_next() again.
 *
 * @param user  as given to dynamo_request_notify()
 */
typedef void (*dynamo_ready_callback_t)(void *user);

/**
 * Asks for one call, as soon as dynamo_request_next() with time-out 0 would not give
 * DYNAMO_PENDING: perhaps at once, and at the latest when the request ends or is destroyed. For
 * coroutines and event loops that cannot wait on a descriptor: the stream stays bounded, and no
 * thread waits. The call comes from the library's callback thread, under the rules of
 * dynamo_response_callback_t. If another thread received meanwhile, there may be nothing left.
 *
 * @param callback  called exactly once for each call of this function that gives DYNAMO_OK
 * @param user      passed to the callback as it is
 * Ownership: user stays the caller's until the callback returned.
 * Contract: any thread; returns at once; from any callback; borrows user.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (NULL callback), INVALID_STATE (not sent, has
 *         a callback or a queue, or a call asked for earlier is still to come), SYSTEM; on an error the
 *         callback is not called
 */
DYNAMO_LLM_API int32_t dynamo_request_notify(dynamo_request_t *request,
                                             dynamo_ready_callback_t callback, void *user);

/**
 * How a request stands: DYNAMO_PENDING before its end, DYNAMO_END or the error that ended it after,
 * whether or not everything was received. INVALID_HANDLE if it is no request.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_request_status(dynamo_request_t *request);

/**
 * Message of the error that ended a request.
 * Ownership: the request's; valid until it is destroyed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: no error so far (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_request_error(dynamo_request_t *request);

/**
 * The same as a JSON object, see dynamo_last_error_json().
 * Ownership: the request's; valid until it is destroyed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: no error so far (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_request_error_json(dynamo_request_t *request);

/**
 * The id that logs, errors and the responses' JSON carry: "req-" and 16 hexadecimal digits, unique
 * in this process.
 * Ownership: the request's; valid until it is destroyed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_request_id(dynamo_request_t *request);

/** When what happened to a request, in microseconds since it was sent; -1 if it did not happen, or
 * not yet. */
typedef struct dynamo_timing_t {
    /** sizeof(dynamo_timing_t), set by the caller: the library fills no more than that. */
    size_t struct_size;
    /** The engine got it: before, it waited for a place ("limits"). */
    int64_t queue_us;
    /** The engine pushed the first of the answer. */
    int64_t first_token_us;
    /** It ended. */
    int64_t total_us;
} dynamo_timing_t;

/**
 * When what happened to a request, so far.
 * @param timing  filled; set timing->struct_size first
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_request_timing(dynamo_request_t *request, dynamo_timing_t *timing);

/** A place where the events of many requests arrive: see dynamo_queue_next(). Opaque. */
typedef struct dynamo_queue_t dynamo_queue_t;

/**
 * Has the request's events delivered to a queue in place of dynamo_request_recv(), _next() and _fd(),
 * which then give DYNAMO_ERROR_INVALID_STATE. Call it before dynamo_request_send().
 *
 * @param queue  may be destroyed before the request; its events then go nowhere
 * @param user   comes back as it is in each event
 * Ownership: user stays the caller's.
 * Contract: any thread; returns at once; from any callback; borrows user.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_STATE (already sent, or has a queue or a callback)
 */
DYNAMO_LLM_API int32_t dynamo_request_set_queue(dynamo_request_t *request, dynamo_queue_t *queue,
                                                void *user);

/** Cancels a request and gives it up; threads that wait in dynamo_request_recv() return with
 * DYNAMO_ERROR_CANCELLED. NULL is fine.
 * Contract: any thread; returns at once; from any callback; takes its argument.
 */
DYNAMO_LLM_API void dynamo_request_destroy(dynamo_request_t *request);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Response
 * Everything that had come of one choice of the answer when it was received. A response is immutable
 * and outlives its request. What these functions return lives until the response is freed. */
/** @{ */

/** Token counts of a request, in tokens. */
typedef struct dynamo_usage_t {
    /** sizeof(dynamo_usage_t), set by the caller: the library fills no more than that. */
    size_t struct_size;
    /** Tokens of the prompt. */
    uint64_t prompt_tokens;
    /** Tokens of the answer, all choices together. */
    uint64_t completion_tokens;
    /** Part of prompt_tokens that came from a prefix cache. */
    uint64_t cached_tokens;
} dynamo_usage_t;

/**
 * The text, "" if there is none. It never splits a code point; bytes of an engine that are no UTF-8
 * come as U+FFFD.
 * Ownership: the response's; valid until it is freed.
 * @param length  gets the length in bytes without the NUL; may be NULL
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_response_text(const dynamo_response_t *response, size_t *length);

/**
 * The token ids, if the engine gives them.
 * Ownership: the response's; valid until it is freed.
 * @param count  gets their number; may be NULL
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the first one, or NULL: none (last status DYNAMO_OK), or INVALID_HANDLE
 */
DYNAMO_LLM_API const uint32_t *dynamo_response_token_ids(const dynamo_response_t *response,
                                                         size_t *count);

/** Number of the choice that this is part of, from 0; not 0 only if the request's "n" is over 1.
 * 0 and INVALID_HANDLE if it is no response.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API uint32_t dynamo_response_index(const dynamo_response_t *response);

/**
 * Why the choice ended: "stop", "length", "tool_calls", "content_filter".
 * Ownership: the response's; valid until it is freed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: this is not its last response (last status DYNAMO_OK), or
 *         INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_response_finish_reason(const dynamo_response_t *response);

/**
 * Token counts of the whole request; the last response has them if the engine counts.
 * @param usage  filled; set usage->struct_size first
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, DYNAMO_PENDING (not in this response), INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_usage(const dynamo_response_t *response,
                                             dynamo_usage_t *usage);

/**
 * When what happened to the request; the last response of all has it.
 * @param timing  filled; set timing->struct_size first
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, DYNAMO_PENDING (not in this response), INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_timing(const dynamo_response_t *response,
                                              dynamo_timing_t *timing);

/**
 * The response as OpenAI's JSON: a chat.completion.chunk or text_completion; with "stream": false
 * a chat.completion or text_completion; for embeddings a list. Built at the first call. If the
 * body's "nvext" has {"extra_fields": ["timing"]}, the last one has
 * "nvext": {"timing": {"queue_ms": n, "first_token_ms": n, "total_ms": n}}.
 * Of a request of data it is {"items": [...]}, with bytes as {"base64": "..."}.
 * Ownership: the response's; valid until it is freed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API const char *dynamo_response_json(dynamo_response_t *response);

/**
 * Number of items of data in a response; 0 for a response to an OpenAI body, and for INVALID_HANDLE.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API size_t dynamo_response_item_count(const dynamo_response_t *response);

/**
 * An item of data in a response to a request of data.
 *
 * @param index  from 0; less than dynamo_response_item_count()
 * @param item   gets it
 * Ownership: the bytes are the response's.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_response_item(const dynamo_response_t *response, size_t index,
                                            dynamo_data_t *item);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Completion queue
 * One thread serves many requests: each that was given the queue before it was sent delivers its events
 * there, in order, an event at a time, so that none keeps the others waiting. Engines put requests into the
 * queue without a lock. */
/** @{ */

/** What happened to a request of a queue. */
typedef struct dynamo_event_t {
    /** sizeof(dynamo_event_t), set by the caller: the library fills no more than that. */
    size_t struct_size;
    /** Whose event it is; a stale handle if the request was destroyed meanwhile. */
    dynamo_request_t *request;
    /** As given to dynamo_request_set_queue(). */
    void *user;
    /** The caller owns it: dynamo_free() it. NULL in the terminal event. */
    dynamo_response_t *response;
    /** DYNAMO_OK with a response; in the terminal event DYNAMO_END or the error, which
     * dynamo_request_error() explains. */
    int32_t status;
} dynamo_event_t;

/**
 * Makes a queue.
 * Ownership: the caller owns the result; dynamo_queue_destroy() it.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the queue, or NULL: OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_queue_t *dynamo_queue_create(void);

/**
 * Waits for the next event of any of the queue's requests. Of each request that was sent, or cancelled
 * before, there are responses and then exactly one terminal event, unless it is destroyed earlier: then
 * nothing more comes of it. A request that has several responses to give takes turns with the others.
 *
 * Under load, when events come within 100 microseconds, a reader that finds none looks again
 * after up to a millisecond, without being woken; a stream that is nearly full wakes it.
 *
 * @param timeout_ms  milliseconds to wait; -1 for ever, 0 to poll
 * @param event       filled with DYNAMO_OK; set event->struct_size first
 * Ownership: the caller owns event->response.
 * Threads:   several threads may wait on one queue; each event goes to one of them. Two events of one
 *            request may then be in two threads' hands at a time: where that matters give each thread a queue
 *            of its own.
 * Blocking:  up to timeout_ms. dynamo_queue_destroy() ends the wait.
 * Contract: any thread; may block; from any callback; the caller owns what it gives.
 * @return DYNAMO_OK, DYNAMO_PENDING (nothing came), CLOSED (the queue was destroyed), INVALID_HANDLE,
 *         INVALID_ARGUMENT
 */
DYNAMO_LLM_API int32_t dynamo_queue_next(dynamo_queue_t *queue, int64_t timeout_ms,
                                         dynamo_event_t *event);

/** Gives a queue up; threads that wait on it return with DYNAMO_ERROR_CLOSED. Its requests go on, with
 * nobody to hear of them: destroy those, too. NULL is fine.
 * Contract: any thread; returns at once; from any callback; takes its argument.
 */
DYNAMO_LLM_API void dynamo_queue_destroy(dynamo_queue_t *queue);
/** @} */

/* ------------------------------------------------------------------------------------------- */
/** @name Tokenizer
 * A model's tokenizer and chat template, without the model. Python does the work, in the thread that
 * engines in Python share; the calls here wait for it without its GIL. So no log callback may call
 * them: the thread that logs may be that one. */
/** @{ */

/** A tokenizer with its chat template. Opaque; counted: its detokenizers keep it alive. */
typedef struct dynamo_tokenizer_t dynamo_tokenizer_t;
/** Turns a stream of token ids into a stream of text. Opaque. */
typedef struct dynamo_detokenizer_t dynamo_detokenizer_t;

/**
 * Opens the tokenizer of a model.
 *
 * @param config_json  a JSON object; "{}" is the tokenizer of the demo model. Keys, all optional:
 *                     "model"   folder with tokenizer.json, or that file; what lies beside it,
 *                               tokenizer_config.json with the chat template above all, is used too;
 *                     "python"  as for dynamo_runtime_create().
 * Ownership: the caller owns the result; dynamo_tokenizer_destroy() it.
 * Blocking:  until it is loaded. In a program that runs Python it takes the GIL once; a caller that
 *            holds the GIL has it released meanwhile.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the tokenizer, or NULL: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, MODEL_NOT_FOUND,
 *         PYTHON_UNAVAILABLE, ENGINE_UNAVAILABLE (a Python package is missing), ENGINE_FAILED,
 *         VERSION_MISMATCH, CLOSED, SYSTEM, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_tokenizer_t *dynamo_tokenizer_create(const char *config_json);

/**
 * Gives a tokenizer up. NULL is fine. Its detokenizers go on; calls that are under way end well.
 * Blocking: if neither is there, until it was freed, at most 10 seconds.
 * Contract: any thread; may block; not from log callbacks; takes its argument.
 */
DYNAMO_LLM_API void dynamo_tokenizer_destroy(dynamo_tokenizer_t *tokenizer);

/**
 * What there is to know of a tokenizer, as a JSON object:
 *
 *     {"path": "/models/demo", "vocabulary_size": 2048, "largest_token_id": 2047,
 *      "special_tokens": {"<|end|>": 0, ...}, "bos_token_id": 1, "eos_token_ids": [0],
 *      "has_chat_template": true, "context_length": 1024}
 *
 * vocabulary_size counts the added tokens, too. bos_token_id and context_length are there if the
 * model's files say so; eos_token_ids are those of its generation, else of its tokenizer.
 * Ownership: the tokenizer's; valid until it is destroyed.
 * Contract: any thread; returns at once; from any callback; borrowed.
 * @return the text, or NULL: INVALID_HANDLE
 */
DYNAMO_LLM_API const char *dynamo_tokenizer_info(dynamo_tokenizer_t *tokenizer);

/**
 * Turns a text into token ids.
 *
 * @param text                UTF-8; it may have NUL bytes, and may be NULL if length is 0
 * @param length              its length in bytes
 * @param add_special_tokens  1: with those that the tokenizer puts around a text, such as BOS;
 *                            0: without, as for a prompt that a chat template made. Special tokens that
 *                            are written in the text become what they are in either case.
 * @param ids                 gets the first id; NULL on an error, and if there is none
 * @param count               gets their number
 * Ownership: the caller owns *ids; dynamo_free() it.
 * Blocking:  until it is done: a tenth of a millisecond, and more for long texts.
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (not UTF-8, or NULL), CLOSED (Python in this
 *         process is shutting down), ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_tokenizer_encode(dynamo_tokenizer_t *tokenizer, const char *text,
                                               size_t length, int32_t add_special_tokens,
                                               uint32_t **ids, size_t *count);

/**
 * Turns token ids into a text. Bytes that are no UTF-8 come as U+FFFD.
 *
 * @param ids                  may be NULL if count is 0
 * @param count                their number
 * @param skip_special_tokens  1: special tokens, such as EOS, leave no text; 0: they do
 * @param length               gets the length in bytes without the NUL; may be NULL
 * Ownership: the caller owns the text; dynamo_free() it.
 * Blocking:  until it is done, as dynamo_tokenizer_encode().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, INVALID_ARGUMENT (NULL, or an id over largest_token_id),
 *         CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_tokenizer_decode(dynamo_tokenizer_t *tokenizer, const uint32_t *ids,
                                             size_t count, int32_t skip_special_tokens,
                                             size_t *length);

/**
 * Turns a chat into the prompt that the model was trained on, by its chat template. To encode the
 * prompt, do not add special tokens: the template has written them.
 *
 * @param chat_json  a chat body, as for dynamo_request_create(). What counts is "messages", "tools",
 *                   "chat_template" (in place of the model's), "chat_template_kwargs" (more variables
 *                   of the template), "add_generation_prompt" (default true), and
 *                   "continue_final_message" (default false).
 * @param length     gets the length in bytes without the NUL; may be NULL
 * Ownership: the caller owns the text; dynamo_free() it.
 * Blocking:  until it is done, as dynamo_tokenizer_encode().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the text, or NULL: INVALID_HANDLE, INVALID_ARGUMENT, INVALID_JSON, INVALID_REQUEST (no
 *         chat, or what the template says against it), NOT_SUPPORTED (no template, or it does not
 *         know the tools), CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_tokenizer_apply_template(dynamo_tokenizer_t *tokenizer,
                                                     const char *chat_json, size_t *length);

/**
 * Begins a text that comes token by token.
 *
 * @param skip_special_tokens  1: special tokens, such as EOS, leave no text; 0: they do
 * Ownership: the caller owns the result; dynamo_detokenizer_destroy() it. It keeps the tokenizer alive.
 * Contract: any thread; returns at once; from any callback; the caller owns what it gives.
 * @return the detokenizer, or NULL: INVALID_HANDLE, OUT_OF_MEMORY
 */
DYNAMO_LLM_API dynamo_detokenizer_t *dynamo_detokenizer_create(dynamo_tokenizer_t *tokenizer,
                                                               int32_t skip_special_tokens);

/**
 * Adds token ids to a text, any number of them at once. All the texts that come of it, put together, are
 * what dynamo_tokenizer_decode() makes of all ids at once: spaces between words included. No text splits
 * a code point; one that is not whole yet comes with a later call.
 *
 * @param ids     may be NULL if count is 0
 * @param count   their number
 * @param length  gets the length in bytes without the NUL; may be NULL
 * Ownership: the caller owns the text; dynamo_free() it.
 * Threads:   calls for one detokenizer wait for each other.
 * Blocking:  until it is done, as dynamo_tokenizer_encode().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return what the ids add to the text, "" if nothing yet; or NULL, and then none of them was added:
 *         INVALID_HANDLE, INVALID_ARGUMENT (NULL, or an id over largest_token_id), CLOSED,
 *         ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_detokenizer_add(dynamo_detokenizer_t *detokenizer, const uint32_t *ids,
                                            size_t count, size_t *length);

/**
 * Ends a text: gives what was kept back, a code point that never got whole, as U+FFFD. The detokenizer
 * may then be used for another text.
 *
 * @param length  gets the length in bytes without the NUL; may be NULL
 * Ownership: the caller owns the text; dynamo_free() it.
 * Threads:   as dynamo_detokenizer_add().
 * Blocking:  until it is done, as dynamo_tokenizer_encode().
 * Contract: any thread; may block; not from log callbacks; the caller owns what it gives.
 * @return the rest of the text, as a rule ""; or NULL, and then the text has not ended: INVALID_HANDLE,
 *         CLOSED, ENGINE_FAILED, OUT_OF_MEMORY
 */
DYNAMO_LLM_API char *dynamo_detokenizer_finish(dynamo_detokenizer_t *detokenizer, size_t *length);

/**
 * Gives a detokenizer up. NULL is fine.
 * Blocking: if it was the last that kept a destroyed tokenizer alive, as dynamo_tokenizer_destroy().
 * Contract: any thread; may block; not from log callbacks; takes its argument.
 */
DYNAMO_LLM_API void dynamo_detokenizer_destroy(dynamo_detokenizer_t *detokenizer);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_H */
