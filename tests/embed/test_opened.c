/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is not linked to the library opens it with dlopen() and RTLD_LOCAL, and closes it again. Python's
 * extension modules must still find Python's symbols. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dynamo_llm.h"

#define LOOK_UP(function)                                               \
    do {                                                                \
        *(void **)&call.function = dlsym(library, "dynamo_" #function); \
        if (call.function == NULL)                                      \
            return fail("dynamo_" #function);                           \
    } while (0)

static struct {
    dynamo_runtime_t *(*runtime_create)(const char *);
    void (*runtime_destroy)(dynamo_runtime_t *);
    dynamo_request_t *(*request_create)(const char *);
    int32_t (*request_send)(dynamo_runtime_t *, dynamo_request_t *);
    dynamo_response_t *(*request_recv)(dynamo_request_t *);
    int32_t (*request_status)(dynamo_request_t *);
    void (*request_destroy)(dynamo_request_t *);
    const char *(*response_text)(const dynamo_response_t *, size_t *);
    const char *(*last_error)(void);
    void (*free)(void *);
} call;

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, call.last_error == NULL ? dlerror() : call.last_error());
    return 1;
}

static int run(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return fail(path);
    LOOK_UP(last_error);
    LOOK_UP(runtime_create);
    LOOK_UP(runtime_destroy);
    LOOK_UP(request_create);
    LOOK_UP(request_send);
    LOOK_UP(request_recv);
    LOOK_UP(request_status);
    LOOK_UP(request_destroy);
    LOOK_UP(response_text);
    LOOK_UP(free);
    dynamo_runtime_t *runtime = call.runtime_create("{}");
    if (runtime == NULL)
        return fail("create");
    dynamo_request_t *request = call.request_create(
        "{\"messages\": [{\"role\": \"user\", \"content\": \"What is a KV cache?\"}]}");
    if (request == NULL || call.request_send(runtime, request) != DYNAMO_OK)
        return fail("send");
    size_t total = 0;
    dynamo_response_t *response;
    while ((response = call.request_recv(request)) != NULL) {
        size_t length = 0;
        call.response_text(response, &length);
        total += length;
        call.free(response);
    }
    if (call.request_status(request) != DYNAMO_END || total == 0)
        return fail("answer");
    call.request_destroy(request);
    call.runtime_destroy(runtime);
    dlclose(library); /* its threads and Python's still run in it */
    return 0;
}

int main(int argc, char **argv) {
    alarm(300);
    if (argc != 2)
        return 2;
    for (int i = 0; i < 3; ++i) {
        if (run(argv[1]) != 0)
            return 1;
    }
    return 0;
}
