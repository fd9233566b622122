/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/engine.h
 * @brief The engine interface: how to add an inference engine to the library.
 *
 * An engine is a struct of functions, registered under a name. dynamo_runtime_create() with that name starts an
 * instance of it. Each request then comes with a stream, into which the engine pushes chunks from any thread until it
 * finishes or fails the stream. The library's own engines, and its Python host, use nothing but this header.
 *
 * The rules of dynamo_llm.h hold here, too. The life of a stream, as an engine sees it:
 *
 *   generate(stream) -> dynamo_stream_push() ... -> dynamo_stream_finish() or dynamo_stream_fail()
 *
 * For each stream that it accepted, the engine must call dynamo_stream_finish() or dynamo_stream_fail() exactly
 * once, also after cancel(). Until then the request counts as in flight, and the instance is not stopped. Afterwards
 * the stream handle is stale. If the engine ends the stream before generate() has returned, the end takes effect once
 * generate() has returned DYNAMO_OK.
 *
 * A function of an engine should return its errors instead of throwing them. A C++ exception is logged; start(),
 * generate(), generate_data(), call(), and describe() then fail with DYNAMO_ERROR_ENGINE_FAILED, and so does a request whose
 * on_writable() throws. std::bad_alloc is DYNAMO_ERROR_OUT_OF_MEMORY there, and is not logged. If metrics() throws, its
 * output is dropped. An instance whose stop() throws counts as stopped.
 *
 * In a function of an engine, dynamo_runtime_shutdown() and dynamo_runtime_destroy() of a runtime that uses the same
 * instance do not wait: the instance is stopped later.
 */
#ifndef DYNAMO_LLM_ENGINE_H
#define DYNAMO_LLM_ENGINE_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The engine's side of one request. Opaque. */
typedef struct dynamo_stream_t dynamo_stream_t;

/** @name Engines */
/** @{ */

/** What an engine consumes and produces. */
typedef enum dynamo_engine_kind_t {
    /** A text engine: it takes the unchanged OpenAI body and pushes text. */
    DYNAMO_ENGINE_TEXT = 0,
    /**
     * A token-level engine: it takes token ids and pushes token ids. The library's pipeline stands between it and the
     * caller: template and tokenizer, in Python, for the prompt; detokenizer and stop strings, without Python, for the
     * answer. describe() must return "context_length",
     * and "path" or "tokenizer". The engine gets completion bodies with one choice each, whose "prompt" is an
     * array of token ids, and in which these keys have their final values: "max_tokens", "min_tokens",
     * "stop_token_ids" (with the model's EOS), "ignore_eos", "temperature" and the other sampling keys, "seed",
     * "logprobs" (number of alternatives). Its log-probs are {"tokens": [{"logprob": -0.1, "top": [[id, logprob],
     * ...]}, ...]}, with one element for each token id of the chunk. With "pipeline": "off" in the configuration there
     * is no pipeline and no Python: the caller sends such bodies itself.
     */
    DYNAMO_ENGINE_TOKENS = 1,
    /** A raw engine: it takes only raw requests (dynamo_request_create_data()). generate_data() is required, and
     * generate() may be NULL. */
    DYNAMO_ENGINE_DATA = 2
} dynamo_engine_kind_t;

/**
 * The functions of an engine. Those marked optional may be NULL. All may be called from any thread, several at the
 * same time. Later versions may add members at the end.
 */
typedef struct dynamo_engine_t {
    /** sizeof(dynamo_engine_t) when the engine was built. */
    size_t struct_size;

    /**
     * Starts an instance: loads the model. May block; runs on the thread that calls dynamo_runtime_create(), or on one
     * of dynamo_runtime_create_async(). See dynamo_engine_progress().
     *
     * @param user         as passed to dynamo_engine_register()
     * @param config_json  the runtime's whole configuration, validated except for "options", which the engine has to
     *                     validate
     * @param instance     receives the engine's own pointer, which is passed to the other functions
     * @return DYNAMO_OK, or dynamo_engine_error(...)
     */
    int32_t (*start)(void *user, const char *config_json, void **instance);

    /**
     * Accepts a request. Must not block: it runs on the thread that calls dynamo_request_send().
     *
     * @param instance      from start()
     * @param stream        where the answer goes
     * @param request_id    as dynamo_request_id()
     * @param request_json  the OpenAI body, validated; valid during the call
     * @return DYNAMO_OK, or dynamo_engine_error(...): then the request is refused, and the stream handle is stale:
     *         other threads of the engine get INVALID_HANDLE. If the caller is still in dynamo_request_send(), that
     *         call fails, what was pushed is dropped, the end too, and the request may be sent again. If the request
     *         had waited for a slot, it ends with this error, after what was pushed was delivered.
     */
    int32_t (*generate)(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json);

    /** Tells that the request ended on the caller's side (cancelled, destroyed, deadline): stop working, and finish or
     * fail the stream. A push may return DYNAMO_ERROR_CANCELLED without this call. Must not block. The handle may be
     * stale already. */
    void (*cancel)(void *instance, dynamo_stream_t *stream);

    /** Optional. Tells that a stream for which dynamo_stream_push() returned DYNAMO_PENDING has capacity again. Must
     * not block. The handle may be stale already. */
    void (*on_writable)(void *instance, dynamo_stream_t *stream);

    /** Stops an instance and frees it. Called once, when no request is in flight. May block. */
    void (*stop)(void *instance);

    /** What the engine consumes and produces: a dynamo_engine_kind_t. 0, as in a struct that ends before this
     * member, is DYNAMO_ENGINE_TEXT. */
    int32_t kind;

    /**
     * Optional. Describes what was loaded. Called once after start(), and after each control call that succeeded, which
     * may have changed "adapters". If the first call returned "changes": true, it is also called whenever the models are
     * listed, from any thread, until stop(). Must not block.
     *
     * @return a JSON object, owned by the engine and valid until the next call in the same thread, or stop(). NULL stands
     *         for an empty object. All keys are optional:
     *         "path"            folder or file of the model;
     *         "device"          where it computes, such as "cuda:1". An engine that reads "device" of its configuration
     *                           returns it, and refuses a device that it does not have. If "device" is absent,
     *                           a configuration that chooses a device fails with DYNAMO_ERROR_INVALID_CONFIG;
     *         "context_length"  in tokens;
     *         "capabilities"    array of "chat", "completion", "embedding", "images", "logprobs", "seed", "tools",
     *                           "json_schema", "regex", "grammar", "lora", "priority", "rerank", "score", "classify";
     *         "adapters"        names of LoRA adapters, which a request may give as its "model";
     *         "tokenizer"       folder with tokenizer.json, if it is not "path";
     *         "eos_token_ids"   token ids that end an answer, in addition to those of the tokenizer's files;
     *         "request_keys"    array of keys of request bodies that the engine supports beyond those that the library
     *                           knows. Only a declared key reaches generate(), in the body; all others remain
     *                           DYNAMO_ERROR_INVALID_REQUEST. For a token-level engine also "extra", and the keys that
     *                           its pipeline leaves to it, such as "bad_words" (see docs/requests.md);
     *         "tool_call_parser", "reasoning_parser"
     *                           for a token-level engine: names of the parsers of NVIDIA Dynamo that find tool calls and
     *                           reasoning in the model's answers, unless the configuration names others;
     *         "calls"           names of the control calls that call() accepts: letters, digits, and '_';
     *         "models"          for engines with several models: names that a request may give as its "model", or
     *                           objects with "id" and keys as these, each of which dynamo_runtime_models() lists;
     *         "changes"         whether "models" is a dynamic model list.
     */
    const char *(*describe)(void *instance);

    /**
     * Optional. Adds metrics of the engine to dynamo_runtime_metrics(), which asks one instance of each engine that a
     * runtime uses. Must not block. Not called after stop(), which waits for running calls; not called by a
     * dynamo_runtime_metrics() in metrics() itself.
     *
     * @param write    takes lines in Prometheus' text format; may be called any number of times
     * @param context  to be passed to write
     */
    void (*metrics)(void *instance, void (*write)(void *context, const char *lines), void *context);

    /**
     * Accepts a raw request; otherwise as generate(). Payloads are pushed with the member `data` of dynamo_chunk_t.
     * Optional, except for DYNAMO_ENGINE_DATA: without it, raw requests are refused with DYNAMO_ERROR_NOT_SUPPORTED.
     *
     * @param data  valid during the call
     */
    int32_t (*generate_data)(void *instance, dynamo_stream_t *stream, const char *request_id,
                             const dynamo_data_t *data);

    /**
     * Optional. Accepts a control call, see dynamo_runtime_call(); otherwise as generate(): it must not block, cancel()
     * tells that the result is unwanted, and the stream must be finished or failed exactly once. The result is one JSON
     * payload, pushed with the member `data` of dynamo_chunk_t; without one it is null. Only names that "calls" of
     * describe() lists come here.
     *
     * @param call_id         unique in the process, as a request id
     * @param name            name of the call
     * @param arguments_json  a JSON object, which the engine has to validate: DYNAMO_ERROR_INVALID_REQUEST if it is
     *                        wrong; both texts are valid during the call
     */
    int32_t (*call)(void *instance, dynamo_stream_t *stream, const char *call_id, const char *name,
                    const char *arguments_json);
} dynamo_engine_t;

/**
 * Registers an engine under a name, for the whole process.
 *
 * @param name     letters, digits, '-' and '_'; not in use yet
 * @param engine   copied
 * @param user     passed to start()
 * @param release  called exactly once, after the engine was unregistered and its last instance has stopped; may be
 *                 NULL
 * @return DYNAMO_OK, INVALID_ARGUMENT (the message names what is missing or wrong; `release` is not called)
 */
DYNAMO_LLM_API int32_t dynamo_engine_register(const char *name, const dynamo_engine_t *engine,
                                              void *user, dynamo_release_callback_t release);

/**
 * Unregisters an engine. Runtimes that use it continue to work.
 * @return DYNAMO_OK, ENGINE_NOT_FOUND, INVALID_ARGUMENT (an engine of the library itself)
 */
DYNAMO_LLM_API int32_t dynamo_engine_unregister(const char *name);

/**
 * Sets the calling thread's last error, for a function of an engine to return: `return dynamo_engine_error(...)`.
 *
 * @param status       a negative status
 * @param message      what is wrong and what would be right
 * @param detail_json  object that is merged into the error details, such as {"python": {"type": ..., "traceback":
 *                     ...}}; may be NULL
 * @return status; DYNAMO_ERROR_INTERNAL if it is not negative
 */
DYNAMO_LLM_API int32_t dynamo_engine_error(int32_t status, const char *message,
                                           const char *detail_json);

/**
 * Reports in start() how far it has come, for the callback of dynamo_runtime_create_async(); in dynamo_runtime_create()
 * it has no effect. Call it at the beginning of each phase, and during long ones as often as you like. An engine that
 * waits in start() should call it with NULL several times a second, to notice that it was cancelled.
 *
 * @param progress  set struct_size and phase; "download", "weights", "tokenizer", and "warmup" are usual. If
 *                  bytes_total is not 0, fraction is computed from the bytes; otherwise it is from 0 to 1, or -1. model
 *                  is ignored. NULL reports nothing.
 * Threads: only the thread that runs start().
 * @return DYNAMO_OK; DYNAMO_ERROR_CANCELLED: the creation was cancelled, so free what was loaded, and return this
 *         status from start(); INVALID_ARGUMENT; INVALID_STATE (not in start(), or in another thread)
 */
DYNAMO_LLM_API int32_t dynamo_engine_progress(const dynamo_progress_t *progress);
/** @} */

/** @name Libraries
 * An engine in a shared library, which programs load by its path, without being built with it: `"engine": {"library":
 * "./libmine.so"}` in the configuration. The library exports one function, dynamo_engine_entry(). */
/** @{ */

/** What a library says about itself and its engine. The members up to `version` are the same in every ABI, forever. */
typedef struct dynamo_engine_library_t {
    /** sizeof(dynamo_engine_library_t), set by the program. The library fills no more than that. */
    size_t struct_size;
    /** DYNAMO_LLM_ABI_VERSION when the library was built. */
    uint32_t abi_version;
    /** DYNAMO_LLM_VERSION_STRING when the library was built. A program whose libdynamo_llm_capi is older, or has another
     * ABI, refuses the library with DYNAMO_ERROR_VERSION_MISMATCH, and the message names both versions. */
    const char *version;
    /** The engine; it must stay valid until the process ends. */
    const dynamo_engine_t *engine;
    /** Passed to start(). */
    void *user;
} dynamo_engine_library_t;

#if defined(_WIN32)
#define DYNAMO_ENGINE_EXPORT __declspec(dllexport)
#else
/** Makes a shared library export its dynamo_engine_entry(). */
#define DYNAMO_ENGINE_EXPORT __attribute__((visibility("default")))
#endif

#if !defined(SWIG) /* which would call it, but libdynamo_llm_capi does not define it */
/**
 * Describes the engine of a shared library. Defined by the library, not by libdynamo_llm_capi: write it with C linkage
 * and DYNAMO_ENGINE_EXPORT, as declared here.
 *
 * The first runtime whose configuration names the library calls it; further runtimes use what it returned. Several
 * threads may call it at the same time, so it only fills the struct; start() does the work. The name of the engine, in
 * metrics and errors, is that of the file without "lib" and extension. The library stays loaded until the process ends:
 * a thread of the engine may still be in its code when stop() has returned.
 *
 * Link the library with the shared libdynamo_llm_capi that the program uses, never with the static one.
 *
 * @param host_abi  DYNAMO_LLM_ABI_VERSION of the program's libdynamo_llm_capi. If it is another one than that of this
 *                  header, set `abi_version` and `version`, and return DYNAMO_OK: the program refuses the library.
 * @param library   filled by the function; zero but for struct_size
 * @return DYNAMO_OK; or dynamo_engine_error(...), with which dynamo_runtime_create() fails
 */
DYNAMO_ENGINE_EXPORT int32_t dynamo_engine_entry(uint32_t host_abi,
                                                 dynamo_engine_library_t *library);
#endif

/** The type of dynamo_engine_entry(). */
typedef int32_t (*dynamo_engine_entry_t)(uint32_t host_abi, dynamo_engine_library_t *library);
/** @} */

/** @name Streams */
/** @{ */

/** A part of an answer. Zero the struct, then set the members that apply. */
typedef struct dynamo_chunk_t {
    /** sizeof(dynamo_chunk_t) when the engine was built. */
    size_t struct_size;
    /** UTF-8 bytes; a code point may be split across chunks, and the library reassembles it. NULL if none. */
    const char *text;
    /** Length of the text in bytes. */
    size_t text_length;
    /** The chunk's token ids, as many as token_count; NULL if the engine has none. */
    const uint32_t *token_ids;
    /** Number of tokens, which the capacity of the stream counts; 0 counts as 1 if there is a text, a delta, or
     * log-probs. */
    size_t token_count;
    /** The choice, from 0; less than the request's "n". */
    uint32_t index;
    /** Set in the last chunk of a choice: "stop", "length", "tool_calls", ...; otherwise NULL or "". If "n" is greater
     * than 1, later chunks of the choice are refused with INVALID_ARGUMENT, unless they are empty. */
    const char *finish_reason;
    /** JSON object; NULL if none. Its keys are merged into the delta of the choice ("tool_calls",
     * "reasoning_content"), for completions into the choice, for embeddings into the response. Keys that the library
     * sets itself are not overwritten. For chats, "reasoning" is passed on as "reasoning_content", and the pieces of
     * "tool_calls" get an "index" for each call: a new "id" begins a new call, and so does a complete call without
     * "id" and "index". */
    const char *delta_json;
    /** JSON object for the choice's "logprobs"; NULL if none. */
    const char *logprobs_json;
    /** A payload of the answer to a raw request, delivered whole; NULL if none. It counts as token_count tokens,
     * at least one. JSON is validated. */
    const dynamo_data_t *data;
} dynamo_chunk_t;

/**
 * Pushes a chunk into a stream. The chunk is copied.
 *
 * @return DYNAMO_OK; DYNAMO_PENDING: the stream is full, and nothing was taken, push the chunk again after
 *         on_writable() or dynamo_stream_wait(); DYNAMO_ERROR_CANCELLED: the request ended on the caller's side, or,
 *         for a token-level engine, the chunk completed the answer (a stop string, "max_tokens"): finish the stream;
 *         INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_stream_push(dynamo_stream_t *stream, const dynamo_chunk_t *chunk);

/** A chunk of one step of an engine, and the stream that it is for. */
typedef struct dynamo_push_t {
    /** The stream. */
    dynamo_stream_t *stream;
    /** The chunk, as for dynamo_stream_push(). */
    const dynamo_chunk_t *chunk;
    /** Receives what dynamo_stream_push() would have returned. */
    int32_t status;
} dynamo_push_t;

/**
 * Pushes the chunks of a whole engine step over many requests, in order: like dynamo_stream_push() for each of them,
 * but faster.
 *
 * @param pushes     an array; the status of each element is set
 * @param count      number of elements
 * @param push_size  sizeof(dynamo_push_t) when the engine was built
 * @return DYNAMO_OK if every chunk was taken; DYNAMO_PENDING if not, see each status; INVALID_ARGUMENT (pushes is
 *         NULL, or push_size too small; then nothing was pushed)
 */
DYNAMO_LLM_API int32_t dynamo_stream_push_many(dynamo_push_t *pushes, size_t count,
                                               size_t push_size);

/**
 * Waits until a full stream has capacity: for engines with one thread per request.
 *
 * @param timeout_ms  milliseconds to wait; -1 for no limit
 * Blocking: up to timeout_ms. Log callbacks may call it.
 * @return DYNAMO_OK, DYNAMO_PENDING (still full), DYNAMO_ERROR_CANCELLED, INVALID_HANDLE, INVALID_STATE (it would wait
 *         for the calling thread: only callbacks on that thread take from the stream)
 */
DYNAMO_LLM_API int32_t dynamo_stream_wait(dynamo_stream_t *stream, int64_t timeout_ms);

/**
 * Returns 1 if the request ended on the caller's side, 0 if not, or INVALID_HANDLE if it is not a stream. In an engine
 * with thousands of streams, calling this before computing a token brings the stream into the CPU's cache for the push.
 */
DYNAMO_LLM_API int32_t dynamo_stream_is_cancelled(dynamo_stream_t *stream);

/**
 * Reports that a request waits in the engine's own queue, or that the engine begins to work on it. The request's
 * queue_us, which counts in the metric dynamo_llm_queue_seconds, is the time from dynamo_request_send() to the start
 * of work. A request that ends while it waits has no queue_us. Without this call, work starts when generate() gets the
 * request. The first push starts it in any case.
 *
 * An engine that cannot know when its work begins reports the closest event. Of the library's engines, mistral.rs
 * begins when a request gets one of its "max_seqs" slots, "transformers" when it computes the first tokens of the
 * prompt, and a Python engine with plain generators when a thread is available for the request. vLLM, servers, and
 * clusters do not report it: their queues count in the time to the first token (TTFT).
 *
 * @param is_queued  1: it waits; 0: work begins
 * @return DYNAMO_OK, INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_stream_set_queued(dynamo_stream_t *stream, int32_t is_queued);

/**
 * Gets the time that remains until the request's total deadline, for engines that pass it on. The library itself ends a
 * request whose deadline passes.
 *
 * @param remaining_ms  receives the remaining milliseconds, 0 once the deadline has passed; -1 if there is none
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (remaining_ms is NULL)
 */
DYNAMO_LLM_API int32_t dynamo_stream_remaining(dynamo_stream_t *stream, int64_t *remaining_ms);

/**
 * Ends the answer successfully.
 *
 * @param finish_reason  why, if no chunk had a reason: "stop", "length", ...; NULL is "stop"
 * @param usage          token counts, copied; NULL if not known
 * Ownership: releases the stream.
 * @return DYNAMO_OK, INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_stream_finish(dynamo_stream_t *stream, const char *finish_reason,
                                            const dynamo_usage_t *usage);

/**
 * Ends the answer with an error. What was pushed before is delivered first.
 *
 * @param status       a negative status, usually DYNAMO_ERROR_ENGINE_FAILED
 * @param message      what went wrong
 * @param detail_json  see dynamo_engine_error(); may be NULL
 * Ownership: releases the stream.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (status is not negative; the stream is failed all the same, with
 *         DYNAMO_ERROR_INTERNAL)
 */
DYNAMO_LLM_API int32_t dynamo_stream_fail(dynamo_stream_t *stream, int32_t status,
                                          const char *message, const char *detail_json);
/** @} */

/** @name Records */
/** @{ */

/** Logs a record the way the library does, see dynamo_log_set_callback(). NULL texts are ignored. */
DYNAMO_LLM_API void dynamo_log_write(int32_t level, const char *logger, const char *message);

/** Returns the least level that is delivered at present, a dynamo_log_level_t. Never fails. */
DYNAMO_LLM_API int32_t dynamo_log_level(void);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_ENGINE_H */
