/* SPDX-License-Identifier: Apache-2.0 */
/* The library is linked statically into the program: Python engines use that copy, and no second one is loaded. */
#include <string.h>

#include "embed.h"

static int maps(const char *name) {
    FILE *file = fopen("/proc/self/maps", "r");
    CHECK(file != NULL);
    char line[8192];
    int found = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        found |= strstr(line, name) != NULL;
    }
    fclose(file);
    return found;
}

static void demo_model(void) {
    dynamo_runtime_t *runtime = start("{}");
    answer whole = receive_all(sent(runtime, say("A KV cache")));
    CHECK_STATUS(whole.status, DYNAMO_END);
    CHECK(whole.length > 0 && whole.has_usage);
    answer_free(&whole);
    finish(runtime);
}

static void another_engine(void) {
    dynamo_runtime_t *runtime = start_engine("echoes:Async", "");
    check_says(runtime, "a b", "a b ");
    finish(runtime);
}

int main(void) {
    BEGIN();
    RUN(demo_model);
    RUN(another_engine);
    CHECK(maps("_core.cpython-"));
    CHECK(maps("libpython3."));
    CHECK(!maps("libdynamo_llm_capi"));
    return 0;
}
