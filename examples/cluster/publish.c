/* Publishes the KV blocks of a prompt, as an engine does when it has computed them: publish CLUSTER_JSON
 *
 *     gcc -o publish publish.c $(dynamo-llm config --cflags --libs)
 *     ./publish '{"discovery": "file", "path": "/tmp/cluster"}'
 *
 * Prints how many blocks of the prompt the routers of the cluster find at this worker:
 *
 *     worker 7587895338934311 has 3 blocks of the prompt
 */
#include <dynamo_llm/kv_events.h>
#include <stdio.h>

enum { block_size = 16, block_count = 4 };

static int fail(const char *message) {
    fprintf(stderr, "publish: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2)
        return fail("usage: publish CLUSTER_JSON");
    char config[4096];
    const int length = snprintf(config, sizeof config,
                                "{\"cluster\": %s, \"endpoint\": \"dynamo.backend.generate\","
                                " \"kv_block_size\": %d}",
                                argv[1], block_size);
    if (length < 0 || (size_t)length >= sizeof config)
        return fail("the argument is too long");
    dynamo_kv_publisher_t *publisher = dynamo_kv_publisher_create(config);
    if (publisher == NULL)
        return fail(dynamo_last_error());

    /* begin publish */
    uint32_t prompt[block_size * block_count];
    for (uint32_t i = 0; i < block_size * block_count; ++i)
        prompt[i] = i + 1; /* token ids */
    uint64_t *hashes = NULL;
    size_t count = 0;
    if (dynamo_kv_publisher_hashes(publisher, prompt, block_size * block_count, NULL, NULL, &hashes,
                                   &count) != DYNAMO_OK)
        return fail(dynamo_last_error());
    /* The blocks were computed; later the last of them is dropped. */
    const dynamo_kv_stored_t stored = {
        .struct_size = sizeof stored,
        .token_ids = prompt,
        .token_count = block_size * block_count,
        .block_hashes = hashes,
        .block_count = count,
    };
    if (dynamo_kv_publisher_stored(publisher, &stored) != DYNAMO_OK ||
        dynamo_kv_publisher_removed(publisher, &hashes[count - 1], 1) != DYNAMO_OK ||
        dynamo_kv_publisher_flush(publisher, 10000) != DYNAMO_OK)
        return fail(dynamo_last_error());
    /* end publish */
    dynamo_free(hashes);

    char *info = dynamo_kv_publisher_info(publisher);
    dynamo_json_t *json = info == NULL ? NULL : dynamo_json_create(info);
    if (json == NULL)
        return fail(dynamo_last_error());
    printf("worker %lld has %zu blocks of the prompt\n",
           (long long)dynamo_json_integer(json, "/worker_id", 0), count - 1);
    dynamo_json_destroy(json);
    dynamo_free(info);
    dynamo_kv_publisher_destroy(publisher);
    return 0;
}
