/* SPDX-License-Identifier: Apache-2.0 */
/* mistakes FILE: makes each mistake of a table, which test_callers.py writes, and prints what it is
 * told. A line of the table is a name and steps, with tabs between; a step is a verb and words, with
 * blanks between. In a word %XX is a byte. The first step that fails ends its line:
 *
 *     runtime CONFIG              creates a runtime
 *     ask BODY                    creates a request and sends it
 *     ask_within FIRST TOTAL BODY the same with deadlines in milliseconds, -1 for none
 *     request BODY, deadlines FIRST TOTAL, send, cancel, shutdown MILLISECONDS
 *     settle                      waits for the end of the request without receiving
 *     receive                     receives until the end
 *     tokenizer CONFIG            creates a tokenizer
 *     encode TEXT, decode ID,ID,..., template BODY, detokenize ID,ID,...
 */
#include <dynamo_llm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static dynamo_runtime_t *runtime;
static dynamo_request_t *earlier;
static dynamo_request_t *request;
static dynamo_tokenizer_t *tokenizer;

static void decode(char *word) {
    char *end = word;
    for (const char *at = word; *at != '\0'; ++at) {
        if (*at == '%') {
            const char digits[] = {at[1], at[2], '\0'};
            *end++ = (char)strtol(digits, NULL, 16);
            at += 2;
        } else {
            *end++ = *at;
        }
    }
    *end = '\0';
}

/* The request before goes on: a mistake may need a runtime that is busy with it. */
static int create(const char *body) {
    dynamo_request_destroy(earlier);
    earlier = request;
    request = dynamo_request_create(body);
    return request == NULL ? -1 : 0;
}

static int settle(void) {
    const struct timespec pause = {0, 1000000};
    while (dynamo_request_status(request) == DYNAMO_PENDING) {
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int receive(void) {
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        dynamo_free(response);
    }
    return dynamo_last_status() == DYNAMO_END ? 0 : -1;
}

static size_t numbers(char *word, uint32_t *ids) {
    size_t count = 0;
    for (const char *one; (one = strsep(&word, ",")) != NULL;) {
        ids[count++] = (uint32_t)strtoul(one, NULL, 10);
    }
    return count;
}

static int encode(const char *text) {
    uint32_t *ids;
    size_t count;
    const int32_t status = dynamo_tokenizer_encode(tokenizer, text, strlen(text), 1, &ids, &count);
    if (status == DYNAMO_OK) {
        dynamo_free(ids);
    }
    return status;
}

static int detokenize(const uint32_t *ids, size_t count) {
    dynamo_detokenizer_t *detokenizer = dynamo_detokenizer_create(tokenizer, 1);
    char *text = dynamo_detokenizer_add(detokenizer, ids, count, NULL);
    if (text != NULL) {
        dynamo_free(text);
        dynamo_detokenizer_destroy(detokenizer);
        return 0;
    }
    return -1;
}

static int run(const char *verb, char **words) {
    if (strcmp(verb, "runtime") == 0) {
        runtime = dynamo_runtime_create(words[0]);
        return runtime == NULL ? -1 : 0;
    }
    if (strcmp(verb, "ask") == 0) {
        return create(words[0]) < 0 ? -1 : dynamo_request_send(runtime, request);
    }
    if (strcmp(verb, "ask_within") == 0) {
        if (create(words[2]) < 0 ||
            dynamo_request_set_deadlines(request, atoll(words[0]), atoll(words[1])) < 0) {
            return -1;
        }
        return dynamo_request_send(runtime, request);
    }
    if (strcmp(verb, "request") == 0) {
        return create(words[0]);
    }
    if (strcmp(verb, "deadlines") == 0) {
        return dynamo_request_set_deadlines(request, atoll(words[0]), atoll(words[1]));
    }
    if (strcmp(verb, "send") == 0) {
        return dynamo_request_send(runtime, request);
    }
    if (strcmp(verb, "cancel") == 0) {
        return dynamo_request_cancel(request);
    }
    if (strcmp(verb, "shutdown") == 0) {
        return dynamo_runtime_shutdown(runtime, atoll(words[0]));
    }
    if (strcmp(verb, "settle") == 0) {
        return settle();
    }
    if (strcmp(verb, "receive") == 0) {
        return receive();
    }
    if (strcmp(verb, "tokenizer") == 0) {
        tokenizer = dynamo_tokenizer_create(words[0]);
        return tokenizer == NULL ? -1 : 0;
    }
    if (strcmp(verb, "encode") == 0) {
        return encode(words[0]);
    }
    if (strcmp(verb, "template") == 0) {
        char *prompt = dynamo_tokenizer_apply_template(tokenizer, words[0], NULL);
        return prompt == NULL ? -1 : (dynamo_free(prompt), 0);
    }
    uint32_t ids[16];
    if (strcmp(verb, "decode") == 0) {
        const size_t count = numbers(words[0], ids);
        char *text = dynamo_tokenizer_decode(tokenizer, ids, count, 1, NULL);
        return text == NULL ? -1 : (dynamo_free(text), 0);
    }
    if (strcmp(verb, "detokenize") == 0) {
        return detokenize(ids, numbers(words[0], ids));
    }
    fprintf(stderr, "no such step: %s\n", verb);
    exit(2);
}

static void run_line(char *line) {
    char *rest = line;
    printf("%s\x1f", strsep(&rest, "\t"));
    char *step;
    while ((step = strsep(&rest, "\t")) != NULL) {
        char *words[4] = {NULL, NULL, NULL, NULL};
        const char *verb = strsep(&step, " ");
        for (int i = 0; i < 3 && (words[i] = strsep(&step, " ")) != NULL; ++i) {
            decode(words[i]);
        }
        if (run(verb, words) < 0) {
            printf("%s\x1f%d\x1f%s\x1f", verb, (int)dynamo_last_status(),
                   dynamo_status_name(dynamo_last_status()));
            printf("%s\x1f%s", dynamo_last_error(), dynamo_last_error_json());
            break;
        }
    }
    printf("\x1e");
    dynamo_request_destroy(earlier);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    dynamo_tokenizer_destroy(tokenizer);
    earlier = NULL;
    request = NULL;
    runtime = NULL;
    tokenizer = NULL;
}

int main(int argc, char **argv) {
    static char line[100000];
    alarm(100);
    FILE *table = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (table == NULL) {
        return 2;
    }
    while (fgets(line, sizeof line, table) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        run_line(line);
    }
    fclose(table);
    return 0;
}
