/* Streams an answer, token by token: chat ["question" ["configuration"]]
 *
 *     gcc -o chat chat.c $(dynamo-llm config --cflags --libs)
 *     ./chat "What is a KV cache?"
 *     ./chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
 *
  * Ctrl-C cancels the answer; a second Ctrl-C ends the program immediately. */
#include <dynamo_llm.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t interrupted;

/* Signal handlers must not call the library. */
static void interrupt(int number) {
    interrupted = 1;
    signal(number, SIG_DFL);
}

static int fail(const char *message) {
    fprintf(stderr, "chat: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    dynamo_runtime_t *runtime = dynamo_runtime_create(argc > 2 ? argv[2] : "{}");
    if (runtime == NULL)
        return fail(dynamo_last_error());
    dynamo_chat_t *chat = dynamo_chat_create();
    const char *question = argc > 1 ? argv[1] : "What is a KV cache?";
    if (dynamo_chat_add_message(chat, "user", question) != DYNAMO_OK)
        return fail(dynamo_last_error());
    dynamo_request_t *request = dynamo_request_create_chat(chat);
    if (request == NULL)
        return fail(dynamo_last_error());
    dynamo_chat_destroy(chat);
    signal(SIGINT, interrupt);
    if (dynamo_request_send(runtime, request) != DYNAMO_OK)
        return fail(dynamo_last_error());

    char finish[32] = "";
    dynamo_response_t *response;
    int32_t status;
    /* The timeout lets the loop check for Ctrl-C ten times a second; dynamo_request_recv() has none. */
    while ((status = dynamo_request_next(request, 100, &response)) == DYNAMO_OK ||
           status == DYNAMO_PENDING) {
        if (interrupted)
            dynamo_request_cancel(request);
        if (status == DYNAMO_PENDING)
            continue;
        fputs(dynamo_response_text(response, NULL), stdout);
        fflush(stdout);
        const char *reason = dynamo_response_finish_reason(response);
        if (reason != NULL)
            snprintf(finish, sizeof finish, "%s", reason);
        dynamo_free(response);
    }
    puts("");
    int result = 0;
    if (status == DYNAMO_END) {
        printf("(%s)\n", finish);
    } else if (status == DYNAMO_ERROR_CANCELLED) {
        puts("(cancelled)");
        result = 130;
    } else {
        result = fail(dynamo_request_error(request));
    }
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return result;
}
