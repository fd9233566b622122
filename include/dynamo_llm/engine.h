/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file dynamo_llm/engine.h
 * @brief The engine interface: how something that generates tokens joins the library.
 *
 * An engine is a struct of callbacks, registered under a name. dynamo_runtime_create() with that name
 * starts an instance of it; each request then comes with a stream, into which the engine pushes
 * chunks from any thread until it finishes or fails the stream. The library's own engines, and its
 * Python host, use nothing but this header.
 *
 * The rules of dynamo_llm.h hold here too. The life of a stream, as an engine sees it:
 *
 *   generate(stream) -> dynamo_stream_push() ... -> dynamo_stream_finish() or dynamo_stream_fail()
 *
 * The engine must call one of the last two exactly once for each stream it accepted, also after
 * cancel(): until then the request counts as in flight and the instance is not stopped. After it the
 * stream handle is stale.
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

/** What an engine takes and gives. */
typedef enum dynamo_engine_kind_t {
    /** It takes OpenAI's body as it is and pushes text. */
    DYNAMO_ENGINE_TEXT = 0,
    /**
     * It takes token ids and pushes token ids. The library's pipeline (in Python: template, tokenizer,
     * detokenizer, stop strings) stands between it and the caller; describe() must give
     * "context_length" and "path" or "tokenizer". The engine gets completion bodies whose "prompt" is
     * an array of token ids, one choice each, and in which these keys are worked out: "max_tokens",
     * "min_tokens", "stop_token_ids" (with the model's EOS), "ignore_eos", "temperature" and the
     * other sampling keys, "seed", "logprobs" (number of alternatives). Its log-probs are
     * {"tokens": [{"logprob": -0.1, "top": [[id, logprob], ...]}, ...]}, one for each token id of
     * the chunk. With "pipeline": "off" in the configuration there is no pipeline and no Python: the
     * caller sends such bodies itself.
     */
    DYNAMO_ENGINE_TOKENS = 1,
    /** It takes requests of data (dynamo_request_create_data()) and nothing else: generate_data() is
     * needed, and generate() may be NULL. */
    DYNAMO_ENGINE_DATA = 2
} dynamo_engine_kind_t;

/**
 * What an engine does. Pointers marked optional may be NULL. All callbacks may be called from any
 * thread, several at a time. Later versions may add members at the end.
 */
typedef struct dynamo_engine_t {
    /** sizeof(dynamo_engine_t) as the engine was built. */
    size_t struct_size;

    /**
     * Starts an instance: loads the model. May block; it runs on the thread that calls
     * dynamo_runtime_create().
     *
     * @param user         as given to dynamo_engine_register()
     * @param config_json  the runtime's whole configuration, checked but for "options", which are
     *                     the engine's to check
     * @param instance     gets the engine's own pointer, passed to the other callbacks
     * @return DYNAMO_OK, or dynamo_engine_error(...)
     */
    int32_t (*start)(void *user, const char *config_json, void **instance);

    /**
     * Takes a request. Must not block: it runs on the thread that calls dynamo_request_send().
     *
     * @param instance      from start()
     * @param stream        where the answer goes
     * @param request_id    as dynamo_request_id()
     * @param request_json  the OpenAI body, checked; lives as long as the call
     * @return DYNAMO_OK, or dynamo_engine_error(...): then the request was not taken, and the stream
     *         handle is stale
     */
    int32_t (*generate)(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json);

    /** The request ended on the caller's side (cancelled, destroyed, deadline): stop work and finish
     * or fail the stream. A push that gives DYNAMO_ERROR_CANCELLED may come without it. Must not block. The handle may be stale already. */
    void (*cancel)(void *instance, dynamo_stream_t *stream);

    /** Optional. There is room again in a stream for which dynamo_stream_push() gave
     * DYNAMO_PENDING. Must not block. The handle may be stale already. */
    void (*space)(void *instance, dynamo_stream_t *stream);

    /** Stops an instance and frees it. Called once, when no request is in flight. May block. */
    void (*stop)(void *instance);

    /** What the engine takes and gives: a dynamo_engine_kind_t. 0, as in a struct that ends before
     * it, is DYNAMO_ENGINE_TEXT. */
    int32_t kind;

    /**
     * Optional. Describes what was loaded; called once after start(), and, if it has said "changes": true
     * then, whenever somebody asks for the models, from any thread, not after stop(). Must not block.
     *
     * @return a JSON object, all keys optional; the engine's own, valid until stop(), and, of what changes,
     *         until the next call in the same thread:
     *         "path" folder or file of the model; "context_length" in tokens; "capabilities" array of
     *         "chat", "completion", "embedding", "logprobs", "seed", "tools", "json_schema",
     *         "regex", "grammar", "lora", "priority"; "adapters" names of LoRA adapters, which a request
     *         may give as its "model"; "tokenizer" folder with tokenizer.json, if it is not "path";
     *         "eos_token_ids"; "models" for engines with several: names that a request may give as its
     *         "model", or objects with "id" and keys as these, which dynamo_runtime_models() lists each by
     *         itself; "changes" whether they come and go. NULL says nothing.
     */
    const char *(*describe)(void *instance);

    /**
     * Optional. Adds metrics of the engine's own to dynamo_runtime_metrics(), which asks one instance
     * of each engine that a runtime uses. Must not block. Not called any more once stop() is.
     *
     * @param write    takes lines in Prometheus' text format, as often as it is called
     * @param context  for write
     */
    void (*metrics)(void *instance, void (*write)(void *context, const char *lines), void *context);

    /**
     * Optional, except for DYNAMO_ENGINE_DATA. Takes a request of data; as generate(). Items go out
     * with the member data of dynamo_chunk_t. Without it, requests of data are refused with
     * DYNAMO_ERROR_NOT_SUPPORTED.
     *
     * @param data  lives as long as the call
     */
    int32_t (*generate_data)(void *instance, dynamo_stream_t *stream, const char *request_id,
                             const dynamo_data_t *data);
} dynamo_engine_t;

/**
 * Registers an engine under a name, for the whole process.
 *
 * @param name     letters, digits, '-' and '_'; not taken yet
 * @param engine   copied
 * @param user     passed to start() as it is
 * @param release  called once when the engine was unregistered and its last instance stopped; may
 *                 be NULL
 * Contract: any thread; returns at once; from any callback; borrows user.
 * @return DYNAMO_OK, INVALID_ARGUMENT (what is missing is named; then release is not called)
 */
DYNAMO_LLM_API int32_t dynamo_engine_register(const char *name, const dynamo_engine_t *engine,
                                              void *user, dynamo_release_callback_t release);

/** Takes a name back; runtimes that use the engine go on. DYNAMO_OK, ENGINE_NOT_FOUND, or
 * INVALID_ARGUMENT for an engine of the library itself.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_engine_unregister(const char *name);

/**
 * Sets this thread's last error, for a callback to return: `return dynamo_engine_error(...)`.
 *
 * @param status       a negative status
 * @param message      what is wrong and what would be right
 * @param detail_json  object that is merged into the error's details, such as
 *                     {"python": {"type": ..., "traceback": ...}}; may be NULL
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return status; DYNAMO_ERROR_INTERNAL if it is not negative
 */
DYNAMO_LLM_API int32_t dynamo_engine_error(int32_t status, const char *message,
                                           const char *detail_json);
/** @} */

/** @name Streams */
/** @{ */

/** Some of an answer. Zero the struct, then set what there is. */
typedef struct dynamo_chunk_t {
    /** sizeof(dynamo_chunk_t) as the engine was built. */
    size_t struct_size;
    /** Bytes of UTF-8; a code point may be split over chunks, the library joins it. NULL if none. */
    const char *text;
    /** Length of text in bytes. */
    size_t text_length;
    /** Token ids of these tokens, as many as token_count; NULL if the engine has none. */
    const uint32_t *token_ids;
    /** How many tokens this is, for the bound of the stream; 0 counts as 1 if there is a
     * text, a delta or log-probs. */
    size_t token_count;
    /** The choice, from 0; less than the request's "n". */
    uint32_t index;
    /** Set with the last chunk of a choice: "stop", "length", "tool_calls", ...; else NULL. */
    const char *finish_reason;
    /** JSON object whose keys are merged into the choice's delta ("tool_calls",
     * "reasoning_content"), of completions into the choice, of embeddings into the response; NULL
     * if none. What the library itself says there stays. */
    const char *delta_json;
    /** JSON object for the choice's "logprobs"; NULL if none. */
    const char *logprobs_json;
    /** An item of the answer to a request of data, delivered whole; NULL if none. It counts as
     * token_count tokens, or as one. JSON is checked. */
    const dynamo_data_t *data;
} dynamo_chunk_t;

/**
 * Pushes a chunk. Copies it.
 *
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK; DYNAMO_PENDING: the stream is full, nothing was taken, push it again after
 *         space() or dynamo_stream_wait(); DYNAMO_ERROR_CANCELLED: the request ended on the caller's
 *         side, finish the stream; INVALID_HANDLE, INVALID_ARGUMENT, OUT_OF_MEMORY
 */
DYNAMO_LLM_API int32_t dynamo_stream_push(dynamo_stream_t *stream, const dynamo_chunk_t *chunk);

/** One chunk of an engine's step: which stream gets what. */
typedef struct dynamo_push_t {
    /** Where it goes. */
    dynamo_stream_t *stream;
    /** What; as for dynamo_stream_push(). */
    const dynamo_chunk_t *chunk;
    /** Gets what dynamo_stream_push() would have returned. */
    int32_t status;
} dynamo_push_t;

/**
 * Pushes the chunks of a whole engine step over many requests, in order: dynamo_stream_push() for
 * each, at less cost.
 *
 * @param pushes     an array; the status of each is set
 * @param count      its length
 * @param push_size  sizeof(dynamo_push_t) as the engine was built
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK if every chunk was taken; DYNAMO_PENDING if not: look at each status;
 *         INVALID_ARGUMENT (pushes is NULL, or push_size too small; then nothing was pushed)
 */
DYNAMO_LLM_API int32_t dynamo_stream_push_many(dynamo_push_t *pushes, size_t count,
                                               size_t push_size);

/**
 * Waits until a full stream has room: for engines with a thread for each request.
 *
 * @param timeout_ms  milliseconds to wait; -1 for ever
 * Blocking: up to timeout_ms.
 * Contract: any thread; may block; from any callback; hands out nothing.
 * @return DYNAMO_OK, DYNAMO_PENDING (still full), DYNAMO_ERROR_CANCELLED, INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_stream_wait(dynamo_stream_t *stream, int64_t timeout_ms);

/**
 * 1 if the request ended on the caller's side, 0 if not, INVALID_HANDLE if it is no stream. An engine of
 * thousands of streams that asks before it makes a token finds the stream in the CPU's cache when it pushes.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_stream_is_cancelled(dynamo_stream_t *stream);

/**
 * Asks for the request's deadline to the end: for engines that pass it on. The library itself ends a
 * request whose deadline passes.
 *
 * @param remaining_ms  gets the milliseconds that are left, 0 once it has passed; -1 if there is none
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (remaining_ms is NULL)
 */
DYNAMO_LLM_API int32_t dynamo_stream_remaining(dynamo_stream_t *stream, int64_t *remaining_ms);

/**
 * Ends the answer well and gives the stream up.
 *
 * @param finish_reason  why, if no chunk said so: "stop", "length", ...; NULL is "stop"
 * @param usage          token counts, copied; NULL if not known
 * Contract: any thread; returns at once; from any callback; takes its argument.
 * @return DYNAMO_OK, INVALID_HANDLE
 */
DYNAMO_LLM_API int32_t dynamo_stream_finish(dynamo_stream_t *stream, const char *finish_reason,
                                            const dynamo_usage_t *usage);

/**
 * Ends the answer with an error and gives the stream up. What was pushed before is delivered first.
 *
 * @param status       a negative status, as a rule DYNAMO_ERROR_ENGINE_FAILED
 * @param message      what went wrong
 * @param detail_json  see dynamo_engine_error(); may be NULL
 * Contract: any thread; returns at once; from any callback; takes its argument.
 * @return DYNAMO_OK, INVALID_HANDLE, INVALID_ARGUMENT (status not negative; the stream is failed
 *         all the same, as DYNAMO_ERROR_INTERNAL)
 */
DYNAMO_LLM_API int32_t dynamo_stream_fail(dynamo_stream_t *stream, int32_t status,
                                          const char *message, const char *detail_json);
/** @} */

/** @name Records */
/** @{ */

/**
 * Logs a record the library's way: see dynamo_log_set_callback(). NULL texts are ignored.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API void dynamo_log_write(int32_t level, const char *logger, const char *message);

/**
 * Least level that is delivered at present, a dynamo_log_level_t. Never fails.
 * Contract: any thread; returns at once; from any callback; hands out nothing.
 */
DYNAMO_LLM_API int32_t dynamo_log_level(void);
/** @} */

#ifdef __cplusplus
}
#endif

#endif /* DYNAMO_LLM_ENGINE_H */
