/* The stand-in for a model in the example engines: it babbles, one token at a time, in the words of a fixed text. The
 * next token is one that follows the last one somewhere in that text; prompt and seed determine which. It needs no
 * files and almost no time, so that the engines can be read and run anywhere. Replace it with a real model. */
#ifndef BABBLE_H
#define BABBLE_H

#include <dynamo_llm/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/* State of one answer. Set it to zero before babble_read(). */
typedef struct babble_t {
    /* --- from the request --- */
    size_t prompt_tokens;
    size_t max_tokens;
    char **stops; /* stop strings, `stop_count` of them */
    size_t stop_count;
    uint32_t *stop_ids; /* stop tokens, `stop_id_count` of them */
    size_t stop_id_count;
    int ignore_eos;
    size_t min_tokens; /* before them, only max_tokens ends the answer */
    int gives_tokens;  /* token ids only, no text */
    /* --- state so far --- */
    uint64_t random;
    size_t place; /* position in the model's text, in tokens */
    size_t said;  /* tokens generated */
    char *text;   /* text not passed on yet, `length` bytes */
    size_t length;
    /* --- result of the last step --- */
    uint32_t token;
    size_t
        shown; /* bytes of `text` that are final; the rest may be the beginning of a stop string */
    const char *finish; /* "stop" or "length" if the answer has ended, otherwise NULL */
} babble_t;

/*
  * Reads a request. `gives_tokens`: the prompt must be token ids, as a token-level engine (DYNAMO_ENGINE_TOKENS)
 * receives it. Returns DYNAMO_OK, or an error that was set with dynamo_engine_error(). In both cases, call
 * babble_free() afterwards.
 */
int32_t babble_read(babble_t *answer, const char *request_json, int gives_tokens,
                    size_t context_length);

/* Generates one token: sets `token`, `shown` and `finish`. */
void babble_step(babble_t *answer);

/* Returns the result of the last step as a chunk, which points into the answer. */
dynamo_chunk_t babble_chunk(const babble_t *answer);

/* Drops the text of the chunk, after the stream accepted it. */
void babble_taken(babble_t *answer);

/* Returns the token counts so far. */
dynamo_usage_t babble_usage(const babble_t *answer);

void babble_free(babble_t *answer);

#ifdef __cplusplus
}
#endif

#endif
