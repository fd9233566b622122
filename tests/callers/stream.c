/* SPDX-License-Identifier: Apache-2.0 */
/* stream CONFIG BODY...: prints what the answers to requests are put together of. */
#include <dynamo_llm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { most_choices = 16 };

typedef struct choice {
    char *text;
    size_t length;
    uint32_t *ids;
    size_t count;
    char reason[32];
    int is_there;
} choice;

static void *grown(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL) {
        exit(2);
    }
    return memory;
}

static void add(choice *to, const dynamo_response_t *response) {
    size_t length;
    size_t count;
    const char *text = dynamo_response_text(response, &length);
    const uint32_t *ids = dynamo_response_token_ids(response, &count);
    const char *reason = dynamo_response_finish_reason(response);
    to->is_there = 1;
    to->text = grown(to->text, to->length + length + 1);
    memcpy(to->text + to->length, text, length);
    to->length += length;
    to->ids = grown(to->ids, (to->count + count + 1) * sizeof *to->ids);
    if (count > 0) {
        memcpy(to->ids + to->count, ids, count * sizeof *ids);
    }
    to->count += count;
    if (reason != NULL) {
        snprintf(to->reason, sizeof to->reason, "%s", reason);
    }
}

static void print(uint32_t index, choice *of) {
    printf("choice %u\nids", (unsigned)index);
    for (size_t i = 0; i < of->count; ++i) {
        printf(" %u", (unsigned)of->ids[i]);
    }
    printf("\ntext %zu ", of->length);
    fwrite(of->text, 1, of->length, stdout);
    printf("\nreason %s\n", of->reason[0] == '\0' ? "none" : of->reason);
    free(of->text);
    free(of->ids);
}

static void ask(dynamo_runtime_t *runtime, const char *body) {
    static choice choices[most_choices];
    memset(choices, 0, sizeof choices);
    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    int has_usage = 0;
    dynamo_request_t *request = dynamo_request_create(body);
    int32_t status = request == NULL ? dynamo_last_status() : dynamo_request_send(runtime, request);
    if (status == DYNAMO_OK) {
        dynamo_response_t *response;
        while ((response = dynamo_request_recv(request)) != NULL) {
            const uint32_t index = dynamo_response_index(response);
            if (index >= most_choices) {
                exit(2);
            }
            add(&choices[index], response);
            has_usage |= dynamo_response_usage(response, &usage) == DYNAMO_OK;
            dynamo_free(response);
        }
        status = dynamo_request_status(request);
    }
    dynamo_request_destroy(request);
    for (uint32_t i = 0; i < most_choices; ++i) {
        if (choices[i].is_there) {
            print(i, &choices[i]);
        }
    }
    if (has_usage) {
        printf("usage %llu %llu %llu\n", (unsigned long long)usage.prompt_tokens,
               (unsigned long long)usage.completion_tokens,
               (unsigned long long)usage.cached_tokens);
    }
    printf("status %s\n\n", dynamo_status_name(status));
}

int main(int argc, char **argv) {
    alarm(100);
    dynamo_runtime_t *runtime = argc < 2 ? NULL : dynamo_runtime_create(argv[1]);
    if (runtime == NULL) {
        fprintf(stderr, "%s\n", dynamo_last_error());
        return 2;
    }
    for (int i = 2; i < argc; ++i) {
        ask(runtime, argv[i]);
    }
    dynamo_runtime_destroy(runtime);
    return 0;
}
