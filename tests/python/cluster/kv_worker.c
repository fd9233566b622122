/* SPDX-License-Identifier: Apache-2.0 */
/* A worker in C that serves a model and publishes KV events, as it is told:
 *
 *     kv_worker SERVING PUBLISHER COMMANDS
 *
 * SERVING and PUBLISHER are configurations, of a runtime that serves and of the publisher; COMMANDS is a
 * pipe from which it reads a command a line:
 *
 *     stored FIRST BLOCKS FROM     blocks FROM... of the prompt FIRST, FIRST+1, ... of so many blocks
 *     removed FIRST BLOCKS FROM    the same blocks are dropped
 *     cleared                      all are
 *     step FIRST BLOCKS            stored, one event a block, in one call; the last one is removed again
 *
 * It says "ready", and "done" after each command, when all of it was handed over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dynamo_llm/kv_events.h"

#define BLOCK 16

static void must(int is_good) {
    if (!is_good) {
        fprintf(stderr, "%s: %s\n", dynamo_status_name(dynamo_last_status()), dynamo_last_error());
        exit(1);
    }
}

static uint32_t *prompt(uint32_t first, size_t count) {
    uint32_t *tokens = malloc(count * sizeof *tokens);
    for (size_t i = 0; i < count; ++i) {
        tokens[i] = first + (uint32_t)i;
    }
    return tokens;
}

static dynamo_kv_stored_t blocks_of(const uint32_t *tokens, const uint64_t *hashes, size_t from,
                                    size_t count) {
    dynamo_kv_stored_t stored;
    memset(&stored, 0, sizeof stored);
    stored.struct_size = sizeof stored;
    stored.token_ids = tokens + from * BLOCK;
    stored.token_count = count * BLOCK;
    stored.block_hashes = hashes + from;
    stored.block_count = count;
    stored.tokens_per_block = BLOCK;
    if (from > 0) {
        stored.has_parent = 1;
        stored.parent_hash = hashes[from - 1];
    }
    return stored;
}

static void step(dynamo_kv_publisher_t *publisher, const uint32_t *tokens, const uint64_t *hashes,
                 size_t count) {
    dynamo_kv_stored_t *stored = malloc(count * sizeof *stored);
    dynamo_kv_event_t *events = calloc(count + 1, sizeof *events);
    for (size_t i = 0; i < count; ++i) {
        stored[i] = blocks_of(tokens, hashes, i, 1);
        events[i].kind = DYNAMO_KV_STORED;
        events[i].stored = &stored[i];
    }
    events[count].kind = DYNAMO_KV_REMOVED;
    events[count].removed = &hashes[count - 1];
    events[count].removed_count = 1;
    must(dynamo_kv_publisher_publish_many(publisher, events, count + 1, sizeof *events) ==
         DYNAMO_OK);
    free(events);
    free(stored);
}

static void obey(dynamo_kv_publisher_t *publisher, const char *line) {
    char command[16];
    unsigned first = 0, blocks = 0, from = 0;
    sscanf(line, "%15s %u %u %u", command, &first, &blocks, &from);
    uint32_t *const tokens = prompt(first, blocks * BLOCK);
    uint64_t *hashes = NULL;
    size_t count = 0;
    must(dynamo_kv_publisher_hashes(publisher, tokens, blocks * BLOCK, NULL, NULL, &hashes,
                                    &count) == DYNAMO_OK);
    must(count == blocks);
    if (strcmp(command, "stored") == 0) {
        const dynamo_kv_stored_t stored = blocks_of(tokens, hashes, from, blocks - from);
        must(dynamo_kv_publisher_stored(publisher, &stored) == DYNAMO_OK);
    } else if (strcmp(command, "removed") == 0) {
        must(dynamo_kv_publisher_removed(publisher, hashes + from, blocks - from) == DYNAMO_OK);
    } else if (strcmp(command, "cleared") == 0) {
        must(dynamo_kv_publisher_cleared(publisher) == DYNAMO_OK);
    } else if (strcmp(command, "step") == 0) {
        step(publisher, tokens, hashes, blocks);
    } else {
        fprintf(stderr, "not a command: %s\n", line);
        exit(1);
    }
    must(dynamo_kv_publisher_flush(publisher, 60000) == DYNAMO_OK);
    dynamo_free(hashes);
    free(tokens);
    puts("done");
}

int main(int count, char **words) {
    char line[200];
    if (count != 4) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    dynamo_runtime_t *const runtime = dynamo_runtime_create(words[1]);
    must(runtime != NULL);
    dynamo_kv_publisher_t *const publisher = dynamo_kv_publisher_create(words[2]);
    must(publisher != NULL);
    char *const info = dynamo_kv_publisher_info(publisher);
    must(info != NULL);
    printf("ready %s\n", info);
    dynamo_free(info);
    FILE *const commands = fopen(words[3], "r");
    if (commands == NULL) {
        return 2;
    }
    while (fgets(line, sizeof line, commands) != NULL) {
        obey(publisher, line);
    }
    fclose(commands);
    dynamo_kv_publisher_destroy(publisher);
    dynamo_runtime_destroy(runtime);
    puts("ended");
    return 0;
}
