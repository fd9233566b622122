/* Streams an answer token by token: chat ["question" [config.json-text]] */
#include <dynamo_llm.h>
#include <stdio.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, dynamo_last_error());
    return 1;
}

/* Writes a string as JSON. */
static void quote(char *out, const char *text) {
    *out++ = '"';
    for (; *text != '\0'; ++text) {
        out += sprintf(out, (unsigned char)*text < 0x20 || *text == '"' || *text == '\\' ? "\\u%04x" : "%c",
                       (unsigned char)*text);
    }
    *out++ = '"';
    *out = '\0';
}

int main(int argc, char **argv) {
    char question[6 * 1024 + 3], body[7 * 1024];
    quote(question, argc > 1 && argv[1][0] != '\0' ? argv[1] : "What is a KV cache?");
    snprintf(body, sizeof body, "{\"messages\": [{\"role\": \"user\", \"content\": %s}]}", question);

    dynamo_runtime_t *runtime = dynamo_runtime_create(argc > 2 ? argv[2] : "{}");
    if (runtime == NULL) return fail("cannot start");
    dynamo_request_t *request = dynamo_request_create(body);
    if (request == NULL) return fail("bad request");
    if (dynamo_request_send(runtime, request) != DYNAMO_OK) return fail("cannot send");

    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        fputs(dynamo_response_text(response, NULL), stdout);
        fflush(stdout);
        dynamo_response_usage(response, &usage);
        dynamo_free(response);
    }
    if (dynamo_last_status() != DYNAMO_END) return fail("failed");
    printf("\n(%llu prompt tokens, %llu tokens of answer)\n", (unsigned long long)usage.prompt_tokens,
           (unsigned long long)usage.completion_tokens);

    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return 0;
}
