/* An engine in C with a step loop of its own: "babble", and "babble-tokens" for token ids. */
#ifndef ENGINE_H
#define ENGINE_H

#include <dynamo_llm/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { most_running = 64 }; /* sequences in a step */

/* What an instance has done, for whoever looks after it stopped. */
typedef struct engine_report {
    unsigned long steps;
    unsigned long
        of_size[most_running + 1]; /* steps with so many tokens, each of another sequence */
} engine_report;

/*
 * Options: "max_running" sequences in a step, 1 to 64 (default); "prefill_tokens" of prompts that a step reads, 256;
 * "step_us", microseconds that a step takes, 0; "context_length" in tokens, 4096.
 * The user pointer of dynamo_engine_register() is an engine_report that the last instance fills, or NULL.
 */
extern const dynamo_engine_t engine_of_text;
extern const dynamo_engine_t engine_of_tokens;

#ifdef __cplusplus
}
#endif

#endif
