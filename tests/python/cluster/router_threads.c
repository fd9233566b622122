/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that route requests when the router is destroyed, or the process exits.
 *
 *   router_threads CONFIG exit|destroy
 *
 * With "destroy", prints how many threads got INVALID_HANDLE from then on. */
#include <dynamo_llm/router.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { thread_count = 32 };

static dynamo_router_t *router;

/* Routes requests until a call fails. Returns its status. */
static void *run(void *number) {
    const uint32_t tokens[64] = {(uint32_t)(intptr_t)number};
    for (int i = 0;; ++i) {
        char id[32];
        snprintf(id, sizeof id, "%d-%d", (int)(intptr_t)number, i);
        dynamo_route_options_t options;
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.request_id = id;
        dynamo_selection_t *const selection = dynamo_router_select(router, tokens, 64, &options);
        if (selection == NULL || !selection->has_worker || selection->token_ids[0] != tokens[0]) {
            return (void *)(intptr_t)dynamo_last_status();
        }
        dynamo_free(selection);
        if (dynamo_router_free(router, id) != DYNAMO_OK) {
            return (void *)(intptr_t)dynamo_last_status();
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    router = dynamo_router_create(argv[1]);
    if (router == NULL) {
        fprintf(stderr, "%s\n", dynamo_last_error());
        return 1;
    }
    pthread_t threads[thread_count];
    for (int i = 0; i < thread_count; ++i) {
        if (pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) != 0) {
            return 1;
        }
    }
    usleep(300000);
    if (strcmp(argv[2], "destroy") == 0) {
        dynamo_router_destroy(router);
        int refused = 0;
        for (int i = 0; i < thread_count; ++i) {
            void *status;
            pthread_join(threads[i], &status);
            refused += (intptr_t)status == DYNAMO_ERROR_INVALID_HANDLE;
        }
        printf("%d\n", refused);
    }
    return 0;
}
