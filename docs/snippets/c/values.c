/* gcc -o values values.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

static int fail(void) {
    fprintf(stderr, "%s: %s\n", dynamo_status_name(dynamo_last_status()), dynamo_last_error());
    return 1;
}

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
    if (runtime == NULL)
        return fail();
    dynamo_chat_t *chat = dynamo_chat_create();
    /* begin */
    dynamo_chat_add_message(chat, "user", "What is prefill?");
    dynamo_chat_set_boolean(chat, "logprobs", 1);
    dynamo_chat_set_integer(chat, "top_logprobs", 2);
    dynamo_chat_set_integer(chat, "max_tokens", 4);
    dynamo_response_t *answer = dynamo_chat_complete(runtime, chat, -1);
    if (answer == NULL)
        return fail();
    for (size_t i = 0; i < dynamo_response_logprob_count(answer); ++i) {
        dynamo_logprob_t token = {.struct_size = sizeof token};
        dynamo_logprob_t other = {.struct_size = sizeof other};
        dynamo_response_logprob(answer, i, &token);
        dynamo_response_alternative(answer, i, 1, &other);
        printf("\"%s\", not \"%s\": %.1f\n", token.text, other.text, token.logprob - other.logprob);
    }
    /* end */
    dynamo_free(answer);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
    return 0;
}
