/* Selects a worker for each question, as a gateway does before it sends a request: gateway CONFIGURATION QUESTION...
 *
 *     gcc -o gateway gateway.c $(dynamo-llm config --cflags --libs)
 *     ./gateway '{"cluster": {"discovery": "etcd"}, "endpoint": "dynamo.backend.generate"}' "What is a KV cache?"
 *
  * Prints a line for each question: the worker, the number of prompt blocks that it has cached, and its address. All
 * requests are reserved before the first is released, so that the questions spread over the workers. */
#include <dynamo_llm/router.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int fail(void) {
    fprintf(stderr, "gateway: %s: %s\n", dynamo_status_name(dynamo_last_status()),
            dynamo_last_error());
    return 1;
}

/* Selects the worker for a question, and reserves the request under the question's number. */
static int route(dynamo_router_t *router, const char *question, const char *request_id) {
    dynamo_route_options_t options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.request_id = request_id;
    dynamo_chat_t *chat = dynamo_chat_create();
    if (dynamo_chat_add_message(chat, "user", question) != DYNAMO_OK)
        return fail();
    char *body = dynamo_chat_json(chat);
    dynamo_chat_destroy(chat);
    dynamo_selection_t *selection = dynamo_router_select_body(router, body, &options);
    if (selection == NULL)
        return fail();
    dynamo_free(body);
    if (selection->has_prefill_worker)
        printf("request %s: prefill by %" PRIu64 " at %s\n", request_id,
               selection->prefill_worker_id,
               selection->prefill_address == NULL ? "?" : selection->prefill_address);
    printf("request %s: worker %" PRIu64 " rank %" PRIu32 " has %" PRIu32
           " blocks of %zu tokens, at %s\n",
           request_id, selection->worker_id, selection->data_parallel_rank,
           selection->overlap_blocks, selection->token_count,
           selection->address == NULL ? "?" : selection->address);
    dynamo_free(selection); /* also frees everything it points to */
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: gateway CONFIGURATION QUESTION...\n");
        return 2;
    }
    dynamo_router_t *router = dynamo_router_create(argv[1]);
    if (router == NULL)
        return fail();
    int status = 0;
    int reserved = 0;
    char request_id[20];
    for (int number = 2; number < argc && status == 0; ++number) {
        snprintf(request_id, sizeof request_id, "%d", number - 1);
        status = route(router, argv[number], request_id);
        reserved += status == 0;
    }
    /* Here a gateway sends the requests, and reports the first token and the end of each answer to the router. */
    for (int number = 1; number <= reserved; ++number) {
        snprintf(request_id, sizeof request_id, "%d", number);
        if (dynamo_router_prefill_complete(router, request_id) != DYNAMO_OK ||
            dynamo_router_free(router, request_id) != DYNAMO_OK)
            status = fail();
    }
    dynamo_router_destroy(router);
    return status;
}
