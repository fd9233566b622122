/* SPDX-License-Identifier: Apache-2.0 */
/* As released first with this ABI, without its comments. Never changed. */
#ifndef DYNAMO_LLM_KV_EVENTS_H
#define DYNAMO_LLM_KV_EVENTS_H

#include "../dynamo_llm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dynamo_kv_publisher_t dynamo_kv_publisher_t;

typedef enum dynamo_kv_event_kind_t {

    DYNAMO_KV_STORED = 1,

    DYNAMO_KV_REMOVED = 2,

    DYNAMO_KV_CLEARED = 3
} dynamo_kv_event_kind_t;

typedef struct dynamo_kv_stored_t {
    size_t struct_size;

    const uint32_t *token_ids;

    size_t token_count;

    const uint64_t *block_hashes;

    size_t block_count;

    uint32_t tokens_per_block;

    int32_t has_parent;

    uint64_t parent_hash;

    const char *lora_name;

    const char *cache_salt;
} dynamo_kv_stored_t;

typedef struct dynamo_kv_event_t {
    int32_t kind;

    const dynamo_kv_stored_t *stored;

    const uint64_t *removed;

    size_t removed_count;
} dynamo_kv_event_t;

DYNAMO_LLM_API dynamo_kv_publisher_t *dynamo_kv_publisher_create(const char *config_json);

DYNAMO_LLM_API void dynamo_kv_publisher_destroy(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API char *dynamo_kv_publisher_info(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_stored(dynamo_kv_publisher_t *publisher,
                                                  const dynamo_kv_stored_t *stored);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_removed(dynamo_kv_publisher_t *publisher,
                                                   const uint64_t *block_hashes, size_t count);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_cleared(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_publish_many(dynamo_kv_publisher_t *publisher,
                                                        const dynamo_kv_event_t *events,
                                                        size_t count, size_t event_size);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_flush(dynamo_kv_publisher_t *publisher,
                                                 int64_t timeout_ms);

DYNAMO_LLM_API char *dynamo_kv_publisher_statistics(dynamo_kv_publisher_t *publisher);

DYNAMO_LLM_API int32_t dynamo_kv_publisher_hashes(dynamo_kv_publisher_t *publisher,
                                                  const uint32_t *token_ids, size_t count,
                                                  const char *lora_name, const char *cache_salt,
                                                  uint64_t **hashes, size_t *hash_count);

#ifdef __cplusplus
}
#endif

#endif
