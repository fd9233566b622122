/* SPDX-License-Identifier: Apache-2.0 */
/* What converts the tokens that an engine pushes to text: it belongs to one choice of a stream, which calls it. Part of the
 * interface between the library and its Python module, so it has no C++ types. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A part of the engine's answer. */
struct dynamo_stage_input {
    const uint32_t *token_ids;
    size_t token_count;
    const char *finish_reason; /* NULL if the choice goes on */
    const char
        *logprobs_json; /* {"tokens": [...]}, see dynamo_engine_kind_t; NULL without log-probs */
};

/* The part of the caller's answer that comes of it. Valid until the next call. */
struct dynamo_stage_output {
    const char *text; /* whole code points of UTF-8 */
    size_t text_length;
    size_t token_count;        /* of the first tokens, which belong to the answer */
    const char *finish_reason; /* NULL if the choice goes on */
    const char *logprobs_json; /* NULL without log-probs */
    const char *error;         /* if the function fails */
};

struct dynamo_text_stage {
    void *state;
    /* Returns DYNAMO_OK, or a negative status. Never blocks. The stream calls it with its lock held. After
     * it has failed, it fails again. */
    int32_t (*feed)(void *state, const struct dynamo_stage_input *input,
                    struct dynamo_stage_output *output);
    /* Frees the state. Called once. */
    void (*release)(void *state);
};

#ifdef __cplusplus
}
#endif
