/* The model of the example engines: it babbles, a token at a time, in words of its one text. The next token is one
 * that follows the last one somewhere in that text; prompt and seed decide which. It takes no file and no time, so
 * that the engines around it can be read, and run, anywhere. Replace it by a model. */
#ifndef BABBLE_H
#define BABBLE_H

#include <dynamo_llm/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One answer. Zero it before babble_read(). */
typedef struct babble_t {
    /* --- of the request --- */
    size_t prompt_tokens;
    size_t max_tokens;
    char **stops; /* stop strings, `stop_count` of them */
    size_t stop_count;
    uint32_t *stop_ids; /* stop tokens, `stop_id_count` of them */
    size_t stop_id_count;
    int ignore_eos;
    size_t min_tokens; /* until then nothing but max_tokens ends it */
    int gives_tokens;  /* token ids only, no text */
    /* --- so far --- */
    uint64_t random;
    size_t place; /* in the model's text, in tokens */
    size_t said;  /* tokens */
    char *text;   /* not shown yet, `length` bytes */
    size_t length;
    /* --- of the last step --- */
    uint32_t token;
    size_t
        shown; /* this many bytes of `text` are sure; the rest may be the beginning of a stop string */
    const char *finish; /* why it ended: "stop", "length"; else NULL */
} babble_t;

/*
 * Reads a request. `gives_tokens`: its prompt must be token ids, as an engine of the kind DYNAMO_ENGINE_TOKENS gets
 * it. DYNAMO_OK, or an error that was set with dynamo_engine_error(). Either way babble_free() it.
 */
int32_t babble_read(babble_t *answer, const char *request_json, int gives_tokens,
                    size_t context_length);

/* One more token: sets `token`, `shown` and `finish`. */
void babble_step(babble_t *answer);

/* The step as a chunk; it points into the answer. */
dynamo_chunk_t babble_chunk(const babble_t *answer);

/* The chunk was taken: what it showed is dropped. */
void babble_taken(babble_t *answer);

/* Token counts so far. */
dynamo_usage_t babble_usage(const babble_t *answer);

void babble_free(babble_t *answer);

#ifdef __cplusplus
}
#endif

#endif
