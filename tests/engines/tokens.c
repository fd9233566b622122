/* SPDX-License-Identifier: Apache-2.0 */
/* An engine of token ids: says its prompt again, up to "max_tokens". After the token 7 it stalls until it is cancelled; it
 * refuses a prompt that begins with 11, one with 12 after it has pushed that, and one with 13 after it has ended its
 * answer. */
#include <dynamo_llm/engine.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char the_description[4096];
static char the_body[65536];
static atomic_int the_cancels;
static atomic_int the_starts;
static atomic_int the_stops;

static int32_t start(void *user, const char *config_json, void **instance) {
    (void)user;
    (void)config_json;
    *instance = &the_starts;
    ++the_starts;
    return DYNAMO_OK;
}

static const char *after(const char *text, const char *key) {
    const char *const found = strstr(text, key);
    return found == NULL ? NULL : found + strlen(key);
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *id, const char *body) {
    (void)instance;
    (void)id;
    snprintf(the_body, sizeof the_body, "%s", body);
    const char *prompt = after(body, "\"prompt\"");
    const char *limit = after(body, "\"max_tokens\"");
    if (prompt == NULL || (prompt = strchr(prompt, '[')) == NULL || limit == NULL)
        return dynamo_engine_error(DYNAMO_ERROR_INVALID_REQUEST,
                                   "no array of token ids, or no limit", NULL);
    long left = strtol(limit + strspn(limit, ": "), NULL, 10);
    if (strncmp(prompt, "[11", 3) == 0)
        return dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, "not 11", NULL);
    const int has_logprobs = strstr(body, "\"logprobs\"") != NULL;
    for (char *at = (char *)prompt; *at != ']' && left-- > 0;) {
        const uint32_t token = (uint32_t)strtoul(at + 1, &at, 10);
        dynamo_chunk_t chunk;
        memset(&chunk, 0, sizeof chunk);
        chunk.struct_size = sizeof chunk;
        chunk.token_ids = &token;
        chunk.token_count = 1;
#if defined(IGNORES_STATUS) /* and the log-probs, too */
        (void)has_logprobs;
        dynamo_stream_push(stream, &chunk);
        continue;
#endif
        if (has_logprobs)
            chunk.logprobs_json =
                "{\"tokens\": [{\"logprob\": -0.25, \"top\": [[5, -0.25], [6, -1.5]]}]}";
        const int32_t status = dynamo_stream_push(stream, &chunk);
        if (status == DYNAMO_ERROR_CANCELLED)
            ++the_cancels;
        if (status != DYNAMO_OK)
            break;
        if (token == 7)
            return DYNAMO_OK;
        if (token == 13)
            dynamo_stream_finish(stream, NULL, NULL);
        if (token == 12 || token == 13)
            return dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, "no more after 12 and 13", NULL);
    }
    dynamo_usage_t usage;
    memset(&usage, 0, sizeof usage);
    usage.struct_size = sizeof usage;
    usage.cached_tokens = 2;
    dynamo_stream_finish(stream, left < 0 ? "length" : "stop", &usage);
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    ++the_cancels;
    dynamo_stream_finish(stream, NULL, NULL);
}

static void stop(void *instance) {
    (void)instance;
    ++the_stops;
}

static const char *describe(void *instance) {
    (void)instance;
    return the_description;
}

/* Answers with the arguments. */
static int32_t call(void *instance, dynamo_stream_t *stream, const char *id, const char *name,
                    const char *arguments) {
    (void)instance, (void)id, (void)name;
    const dynamo_data_t data = {arguments, strlen(arguments), DYNAMO_DATA_JSON};
    dynamo_chunk_t chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.struct_size = sizeof chunk;
    chunk.data = &data;
    dynamo_stream_push(stream, &chunk);
    return dynamo_stream_finish(stream, NULL, NULL);
}

static const dynamo_engine_t the_engine = {
    .struct_size = sizeof the_engine,
    .start = start,
    .generate = generate,
    .cancel = cancel,
    .stop = stop,
    .kind = DYNAMO_ENGINE_TOKENS,
    .describe = describe,
    .call = call,
};

void set_description(const char *description) {
    snprintf(the_description, sizeof the_description, "%s", description);
}

int register_tokens(const char *name, const char *description) {
    set_description(description);
    return dynamo_engine_register(name, &the_engine, NULL, NULL);
}

int32_t dynamo_engine_entry(uint32_t host_abi, dynamo_engine_library_t *library) {
    (void)host_abi;
    library->abi_version = DYNAMO_LLM_ABI_VERSION;
    library->version = DYNAMO_LLM_VERSION_STRING;
    library->engine = &the_engine;
    return DYNAMO_OK;
}

const char *last_body(void) {
    return the_body;
}

int count_of(const char *what) {
    return strcmp(what, "cancels") == 0 ? the_cancels
           : strcmp(what, "stops") == 0 ? the_stops
                                        : the_starts;
}
