/* Shows the tokens of a chat's prompt: tokenize ["question" ["configuration"]]
 *
 *     gcc -o tokenize tokenize.c $(dynamo-llm config --cflags --libs)
 *     ./tokenize "What is a KV cache?"
 *     ./tokenize "Hello!" '{"model": "/models/llama"}'
 *
  * Prints a line for each token: its id, and the text that it adds. */
#include <dynamo_llm.h>
#include <stdio.h>

static int fail(const char *message) {
    fprintf(stderr, "tokenize: %s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    dynamo_tokenizer_t *tokenizer = dynamo_tokenizer_create(argc > 2 ? argv[2] : "{}");
    if (tokenizer == NULL)
        return fail(dynamo_last_error());
    dynamo_chat_t *chat = dynamo_chat_create();
    const char *question = argc > 1 ? argv[1] : "What is a KV cache?";
    if (dynamo_chat_add_message(chat, "user", question) != DYNAMO_OK)
        return fail(dynamo_last_error());
    char *body = dynamo_chat_json(chat);
    dynamo_chat_destroy(chat);
    size_t length;
    char *prompt = dynamo_tokenizer_apply_template(tokenizer, body, &length);
    if (prompt == NULL)
        return fail(dynamo_last_error());
    dynamo_free(body);
    /* The template has already written the special tokens, so encoding adds none, and decoding keeps them. */
    uint32_t *ids;
    size_t count;
    if (dynamo_tokenizer_encode(tokenizer, prompt, length, 0, &ids, &count) != DYNAMO_OK)
        return fail(dynamo_last_error());
    dynamo_free(prompt);

    dynamo_detokenizer_t *detokenizer = dynamo_detokenizer_create(tokenizer, 0);
    if (detokenizer == NULL)
        return fail(dynamo_last_error());
    dynamo_tokenizer_destroy(tokenizer); /* the detokenizer keeps it alive */
    for (size_t i = 0; i < count; ++i) {
        char *piece = dynamo_detokenizer_add(detokenizer, &ids[i], 1, NULL);
        if (piece == NULL)
            return fail(dynamo_last_error());
        printf("%6u %s\n", (unsigned)ids[i], piece);
        dynamo_free(piece);
    }
    printf("%zu tokens\n", count);
    dynamo_free(ids);
    dynamo_detokenizer_destroy(detokenizer);
    return 0;
}
