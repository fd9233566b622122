/* Streams an answer, token by token: chat ["question" ["configuration"]] */
#include <dynamo_llm.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
    return 1;
}

/* Writes a text as the inside of a JSON string: up to six bytes for each. */
static void escape(char *out, const char *text) {
    *out = '\0';
    for (; *text != '\0'; ++text) {
        const unsigned char c = (unsigned char)*text;
        out += sprintf(out, c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
    }
}

int main(int argc, char **argv) {
    const char *question = argc > 1 ? argv[1] : "What is a KV cache?";
    char escaped[6 * 1000 + 1], body[sizeof escaped + 100];
    if (strlen(question) > 1000)
        return fprintf(stderr, "a question of at most 1000 bytes, please\n"), 2;
    escape(escaped, question);
    sprintf(body, "{\"messages\": [{\"role\": \"user\", \"content\": \"%s\"}]}", escaped);

    dynamo_runtime_t *runtime = dynamo_runtime_create(argc > 2 ? argv[2] : "{}");
    if (runtime == NULL)
        return fail("cannot start");
    dynamo_request_t *request = dynamo_request_create(body);
    if (request == NULL)
        return fail("bad request");
    if (dynamo_request_send(runtime, request) != DYNAMO_OK)
        return fail("cannot send");

    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        fflush(stdout);
        dynamo_response_usage(response, &usage);
        dynamo_free(response);
    }
    if (dynamo_last_status() != DYNAMO_END)
        return fail("failed");
    printf("\n(%llu prompt tokens, %llu tokens of answer)\n",
           (unsigned long long)usage.prompt_tokens, (unsigned long long)usage.completion_tokens);

    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
