/* Calls an endpoint of an NVIDIA Dynamo cluster with JSON, and prints each payload of its answer on a line.
 *
 *     gcc -o call call.c $(dynamo-llm config --cflags --libs)
 *     ./call tools.call '{"question": 1}' '{"discovery": "file", "path": "/tmp/cluster"}'
 */
#include <dynamo_llm.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *message) {
    fprintf(stderr, "call: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return fail("usage: call ENDPOINT JSON CLUSTER_JSON");
    char config[4096];
    const int length = snprintf(config, sizeof config,
                                "{\"engine\": \"dynamo-endpoint\", \"cluster\": %s,"
                                " \"options\": {\"endpoint\": \"%s\"}}",
                                argv[3], argv[1]);
    if (length < 0 || (size_t)length >= sizeof config)
        return fail("the arguments are too long");
    dynamo_runtime_t *runtime = dynamo_runtime_create(config);
    if (runtime == NULL)
        return fail(dynamo_last_error());

    /* begin call */
    dynamo_request_t *request =
        dynamo_request_create_data(DYNAMO_DATA_JSON, argv[2], strlen(argv[2]));
    if (request == NULL || dynamo_request_send(runtime, request) != DYNAMO_OK)
        return fail(dynamo_last_error());
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        for (size_t i = 0; i < dynamo_response_item_count(response); ++i) {
            dynamo_data_t item;
            dynamo_response_item(response, i, &item);
            if (item.kind == DYNAMO_DATA_JSON)
                printf("%s\n", (const char *)item.bytes);
            else
                printf("%zu bytes\n", item.length);
        }
        dynamo_free(response);
    }
    /* end call */
    const int32_t status = dynamo_last_status();
    if (status != DYNAMO_END)
        fail(dynamo_last_error());
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return status == DYNAMO_END ? 0 : 1;
}
