/* gcc -o tokenizer tokenizer.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>
#include <string.h>

static int fail(void) {
    return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
}

int main(void) {
    /* begin */
    dynamo_tokenizer_t *tokenizer = dynamo_tokenizer_create("{}");
    if (tokenizer == NULL)
        return fail();
    const char *text = "What is a KV cache?";
    uint32_t *ids;
    size_t count;
    if (dynamo_tokenizer_encode(tokenizer, text, strlen(text), 1, &ids, &count) != DYNAMO_OK)
        return fail();
    for (size_t i = 0; i < count; ++i)
        printf("%u ", (unsigned)ids[i]);
    char *again = dynamo_tokenizer_decode(tokenizer, ids, count, 1, NULL);
    puts(again);
    dynamo_free(again);
    dynamo_free(ids);
    /* end */

    /* begin template */
    char *prompt = dynamo_tokenizer_apply_template(
        tokenizer, "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}", NULL);
    if (prompt == NULL)
        return fail();
    puts(prompt);
    /* The template has written the special tokens: add none. */
    int32_t status = dynamo_tokenizer_encode(tokenizer, prompt, strlen(prompt), 0, &ids, &count);
    /* end template */
    if (status != DYNAMO_OK)
        return fail();
    dynamo_free(prompt);
    printf("%zu tokens\n", count);
    dynamo_free(ids);

    const char *smile = "A smile: \xf0\x9f\x98\x80";
    if (dynamo_tokenizer_encode(tokenizer, smile, strlen(smile), 1, &ids, &count) != DYNAMO_OK)
        return fail();
    /* begin detokenizer */
    dynamo_detokenizer_t *detokenizer = dynamo_detokenizer_create(tokenizer, 1);
    for (size_t i = 0; i < count; ++i) {
        char *piece = dynamo_detokenizer_add(detokenizer, &ids[i], 1, NULL);
        if (piece == NULL)
            return fail();
        printf("%u \"%s\"\n", (unsigned)ids[i], piece);
        dynamo_free(piece);
    }
    dynamo_free(dynamo_detokenizer_finish(detokenizer, NULL)); /* "": nothing was cut off */
    dynamo_detokenizer_destroy(detokenizer);
    dynamo_tokenizer_destroy(tokenizer);
    /* end detokenizer */
    dynamo_free(ids);
    return 0;
}
