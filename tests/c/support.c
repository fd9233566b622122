/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------- checks */

void check_failed(const char *file, int line, const char *what, const char *why) {
    fprintf(stderr, "%s:%d: %s %s\n  last error: %s: %s\n", file, line, what, why,
            dynamo_status_name(dynamo_last_status()), dynamo_last_error());
    _exit(1);
}

void check_status(const char *file, int line, const char *what, int32_t status, int32_t expected) {
    if (status != expected) {
        char why[200];
        snprintf(why, sizeof why, "gave %s (%d), not %s", dynamo_status_name(status), (int)status,
                 dynamo_status_name(expected));
        check_failed(file, line, what, why);
    }
}

void check_text(const char *file, int line, const char *what, const char *text,
                const char *expected) {
    if (text == NULL || strcmp(text, expected) != 0) {
        fprintf(stderr, "the text is: %.2000s\nit should be: %.2000s\n",
                text == NULL ? "(NULL)" : text, expected);
        check_failed(file, line, what, "is another text");
    }
}

void check_contains(const char *file, int line, const char *what, const char *text,
                    const char *part) {
    if (text == NULL || strstr(text, part) == NULL) {
        fprintf(stderr, "the text is: %.2000s\nwithout the part: %.2000s\n",
                text == NULL ? "(NULL)" : text, part);
        check_failed(file, line, what, "lacks a part");
    }
}

/* ------------------------------------------------------------------------------ create objects */

static char *allocate(size_t size) {
    char *memory = malloc(size);
    CHECK(memory != NULL);
    return memory;
}

char *json(const char *text) {
    char *result = allocate(strlen(text) + 1);
    strcpy(result, text);
    for (char *at = result; *at != '\0'; ++at) {
        if (*at == '\'') {
            *at = '"';
        }
    }
    return result;
}

dynamo_runtime_t *start(const char *config) {
    char *text = json(config);
    dynamo_runtime_t *runtime = dynamo_runtime_create(text);
    free(text);
    CHECK(runtime != NULL);
    return runtime;
}

dynamo_runtime_t *start_echo(void) {
    return start("{'engine': 'echo'}");
}

dynamo_runtime_t *start_script(const char *script) {
    static const char head[] = "{'engine': 'scripted', 'options': {'script': ";
    char *config = allocate(sizeof head + strlen(script) + 3);
    sprintf(config, "%s%s}}", head, script);
    dynamo_runtime_t *runtime = start(config);
    free(config);
    return runtime;
}

dynamo_request_t *ask(const char *body) {
    char *text = json(body);
    dynamo_request_t *request = dynamo_request_create(text);
    free(text);
    CHECK(request != NULL);
    return request;
}

dynamo_request_t *say(const char *prompt) {
    char *body = allocate(strlen(prompt) + 32);
    sprintf(body, "{\"prompt\": \"%s\"}", prompt);
    dynamo_request_t *request = dynamo_request_create(body);
    free(body);
    CHECK(request != NULL);
    return request;
}

dynamo_request_t *say_script(const char *script) {
    char *escaped = allocate(2 * strlen(script) + 1);
    char *end = escaped;
    for (const char *at = script; *at != '\0'; ++at) {
        if (*at == '\'') {
            *end++ = '\\';
        }
        *end++ = *at == '\'' ? '"' : *at;
    }
    *end = '\0';
    dynamo_request_t *request = say(escaped);
    free(escaped);
    return request;
}

dynamo_request_t *sent(dynamo_runtime_t *runtime, dynamo_request_t *request) {
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_OK);
    return request;
}

/* ------------------------------------------------------------------------- a complete answer */

void add_response(answer *whole, dynamo_response_t *response) {
    size_t length;
    size_t tokens;
    const char *text = dynamo_response_text(response, &length);
    CHECK(text != NULL && strlen(text) == length && is_utf8(text));
    whole->text = realloc(whole->text, whole->length + length + 1);
    CHECK(whole->text != NULL);
    memcpy(whole->text + whole->length, text, length + 1);
    whole->length += length;
    dynamo_response_token_ids(response, &tokens);
    whole->token_count += tokens;
    whole->largest = tokens > whole->largest ? tokens : whole->largest;
    ++whole->responses;
    const char *reason = dynamo_response_finish_reason(response);
    if (reason != NULL) {
        snprintf(whole->finish_reason, sizeof whole->finish_reason, "%s", reason);
    }
    dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
    if (dynamo_response_usage(response, &usage) == DYNAMO_OK) {
        whole->usage = usage;
        whole->has_usage = 1;
    }
    dynamo_free(response);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
}

answer receive_all(dynamo_request_t *request) {
    answer whole;
    memset(&whole, 0, sizeof whole);
    whole.text = allocate(1);
    whole.text[0] = '\0';
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        add_response(&whole, response);
    }
    whole.status = dynamo_last_status();
    return whole;
}

void answer_free(answer *whole) {
    free(whole->text);
    whole->text = NULL;
}

void check_answer(dynamo_request_t *request, const char *text, int32_t status) {
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, status);
    CHECK_TEXT(whole.text, text);
    answer_free(&whole);
    dynamo_request_destroy(request);
}

/* ------------------------------------------------------------------------------------ queries */

long long statistic(dynamo_runtime_t *runtime, const char *key) {
    char name[64];
    snprintf(name, sizeof name, "\"%s\":", key);
    char *text = dynamo_runtime_statistics(runtime);
    CHECK_CONTAINS(text, name);
    const long long value = strtoll(strstr(text, name) + strlen(name), NULL, 10);
    dynamo_free(text);
    return value;
}

int is_utf8(const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at != 0) {
        int more = *at < 0x80 ? 0 : *at < 0xC2 ? -1 : *at < 0xE0 ? 1 : *at < 0xF0 ? 2 : 3;
        const int low = *at == 0xE0 ? 0xA0 : *at == 0xF0 ? 0x90 : 0x80;
        const int high = *at == 0xED ? 0x9F : *at == 0xF4 ? 0x8F : 0xBF;
        if (more < 0 || *at > 0xF4 || (more > 0 && (at[1] < low || at[1] > high))) {
            return 0;
        }
        for (++at; more > 0; --more, ++at) {
            if ((*at & 0xC0) != 0x80) {
                return 0;
            }
        }
    }
    return 1;
}

int readable(int fd) {
    struct pollfd look = {fd, POLLIN, 0};
    const int found = poll(&look, 1, 0);
    CHECK(found >= 0);
    return found;
}

long count_of(const char *folder) {
    DIR *all = opendir(folder);
    CHECK(all != NULL);
    long count = 0;
    while (readdir(all) != NULL) {
        ++count;
    }
    closedir(all);
    return count;
}

/* ------------------------------------------------------------------------------------ threads */

pthread_t spawn(void *(*function)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, function, argument) == 0);
    return thread;
}

void join(pthread_t thread) {
    CHECK(pthread_join(thread, NULL) == 0);
}

long add(counter *which, long by) {
    return __atomic_add_fetch(&which->value, by, __ATOMIC_ACQ_REL);
}

long get(counter *which) {
    return __atomic_load_n(&which->value, __ATOMIC_ACQUIRE);
}

void count_release(void *user) {
    add(user, 1);
}

void write_reliability(const char *file, const char *test, const char *what, long long how_often,
                       const char *happened) {
    const char *const path = getenv("DYNAMO_LLM_RELIABILITY");
    if (path == NULL || path[0] == '\0') {
        return;
    }
    const char *name = file;
    for (const char *at = file; (at = strstr(at, "tests/")) != NULL; ++at) {
        name = at + strlen("tests/");
    }
    char line[2000];
    const int length = snprintf(line, sizeof line,
                                "{\"test\": \"%s: %s\", \"what\": \"%s\", \"how_often\": %lld, "
                                "\"happened\": \"%s\"}\n",
                                name, test, what, how_often, happened);
    CHECK(length > 0 && length < (int)sizeof line);
    const int rows = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
    CHECK(rows >= 0);
    CHECK(write(rows, line, (size_t)length) == length); /* in one call: other programs append too */
    close(rows);
}

double scale(void) {
    const char *value = getenv("DYNAMO_TEST_SCALE");
    return value == NULL ? 1 : atof(value);
}
