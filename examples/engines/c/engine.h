/* A step-level engine in C: "babble" produces text, "babble-tokens" token ids. */
#ifndef ENGINE_H
#define ENGINE_H

#include <dynamo_llm/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { most_running = 64 }; /* sequences per step */

/* Statistics of an instance, complete after it has stopped. */
typedef struct engine_report {
    unsigned long steps;
    unsigned long
        of_size[most_running + 1]; /* of_size[n]: number of steps with n tokens, one per sequence */
} engine_report;

/*
  * Options: "max_running", sequences per step, 1 to 64 (default 64); "prefill_tokens", prompt tokens read per step
 * (default 256); "step_us", duration of a step in microseconds (default 0); "context_length" in tokens (default 4096).
 * The user pointer of dynamo_engine_register() is an engine_report, which the last instance fills; may be NULL.
 */
extern const dynamo_engine_t engine_of_text;
extern const dynamo_engine_t engine_of_tokens;

#ifdef __cplusplus
}
#endif

#endif
