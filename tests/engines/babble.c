/* SPDX-License-Identifier: Apache-2.0 */
/* Has examples/engines/c in a shared library that registers its engines. */
#include <engine.h>

int32_t dynamo_llm_register_engines(void);
int32_t dynamo_llm_register_engines(void) {
    const int32_t status = dynamo_engine_register("babble-c", &engine_of_text, NULL, NULL);
    return status < 0 ? status
                      : dynamo_engine_register("babble-tokens", &engine_of_tokens, NULL, NULL);
}
