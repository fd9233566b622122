/* SPDX-License-Identifier: Apache-2.0 */
/* Engines in shared libraries, which the configuration names by path. */
#include "dynamo_llm/engine.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "support.h"

/* ENGINE_LIBRARY: tests/engines/library.c. OTHER_COPY: the same, linked with a static copy of the library. */

static char the_folder[] = "/tmp/dynamo-library-XXXXXX";

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", the_folder, name);
    return path;
}

static dynamo_runtime_t *create(const char *path) {
    char config[1024];
    snprintf(config, sizeof config, "{\"engine\": {\"library\": \"%s\"}}", path);
    return dynamo_runtime_create(config);
}

static void check_refused(const char *path, int32_t status, const char *message) {
    CHECK(create(path) == NULL);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), message);
}

static void check_config(const char *config, const char *message) {
    char *const text = json(config);
    CHECK(dynamo_runtime_create(text) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(dynamo_last_error(), message);
    free(text);
}

/* Copies at most `most` bytes of the engine library, with one byte replaced. Returns the path. */
static const char *damaged(const char *name, long most, long at, int byte) {
    FILE *const from = fopen(ENGINE_LIBRARY, "rb");
    FILE *const to = fopen(path_of(name), "wb");
    CHECK(from != NULL && to != NULL);
    int next;
    for (long i = 0; i < most && (next = fgetc(from)) != EOF; ++i) {
        fputc(i == at ? byte : next, to);
    }
    fclose(from);
    fclose(to);
    return path_of(name);
}

static void with_entry(const char *mode, int32_t status, const char *message) {
    CHECK(setenv("DYNAMO_TEST_ENTRY", mode, 1) == 0);
    check_refused(ENGINE_LIBRARY, status, message);
    CHECK(unsetenv("DYNAMO_TEST_ENTRY") == 0);
}

static void a_library_is_refused_with_the_reason(void) {
    check_refused("/nowhere/libmine.so", DYNAMO_ERROR_ENGINE_NOT_FOUND,
                  "the engine library \"/nowhere/libmine.so\" does not exist");
    check_refused(the_folder, DYNAMO_ERROR_ENGINE_UNAVAILABLE, "is a folder; give the path");
    CHECK(mkfifo(path_of("libfifo.so"), 0600) == 0);
    check_refused(path_of("libfifo.so"), DYNAMO_ERROR_ENGINE_UNAVAILABLE, "is not a regular file");
    FILE *const text = fopen(path_of("libtext.so"), "w");
    CHECK(text != NULL && fputs("This is not a shared library.", text) >= 0 && fclose(text) == 0);
    check_refused(path_of("libtext.so"), DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                  "is not a shared library (ELF)");
    check_refused(damaged("libempty.so", 0, -1, 0), DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                  "is not a shared library (ELF)");
    check_refused(damaged("libshort.so", 200, -1, 0), DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                  "cannot be loaded: ");
    check_refused(damaged("libfar.so", 1L << 30, offsetof(Elf64_Ehdr, e_machine), EM_S390),
                  DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                  "is a library for s390x, but this program is for ");
    check_refused(damaged("libdata.so", 1L << 30, EI_DATA, ELFDATA2MSB),
                  DYNAMO_ERROR_ENGINE_UNAVAILABLE, "another byte order");
    check_refused(CAPI_LIBRARY, DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                  "does not export the function dynamo_engine_entry()");
#if !defined(UNDER_ADDRESS_SANITIZER) && !defined(UNDER_THREAD_SANITIZER)
    check_refused(OTHER_COPY, DYNAMO_ERROR_VERSION_MISMATCH,
                  "is linked with another copy of libdynamo_llm_capi (ABI 1)");
#endif
}

static void an_entry_function_may_refuse(void) {
    with_entry("refuse", DYNAMO_ERROR_SYSTEM, "refused to be used: the device is busy");
    CHECK_CONTAINS(dynamo_last_error_json(), "\"device\":7");
    CHECK_CONTAINS(dynamo_last_error_json(), "\"layer\":\"engine\"");
    with_entry(
        "fail silently", DYNAMO_ERROR_ENGINE_UNAVAILABLE,
        "dynamo_engine_entry() failed with DYNAMO_ERROR_ENGINE_UNAVAILABLE, without a message");
    with_entry("newer", DYNAMO_ERROR_VERSION_MISMATCH,
               "was built with dynamo-llm 999.0.0 (ABI 1), but this program "
               "runs " DYNAMO_LLM_VERSION_STRING " (ABI 1)");
    with_entry("other ABI", DYNAMO_ERROR_VERSION_MISMATCH, "(ABI 99), but this program runs");
    with_entry("no version", DYNAMO_ERROR_ENGINE_FAILED, "DYNAMO_LLM_VERSION_STRING");
    with_entry("no engine", DYNAMO_ERROR_ENGINE_FAILED, "engine is NULL");
    with_entry("no start", DYNAMO_ERROR_ENGINE_FAILED, "engine.start is NULL");
    with_entry("small", DYNAMO_ERROR_ENGINE_FAILED, "sizeof(dynamo_engine_t)");
}

static void wrong_configurations_are_refused(void) {
    check_config("{'engine': {}}", "without \"library\"");
    check_config("{'engine': {'library': ''}}", "without \"library\"");
    check_config("{'engine': {'library': 7}}", "\"engine.library\"");
    check_config("{'engine': {'libary': 'x'}}", "did you mean \"engine.library\"?");
    check_config("{'engine': 7}", "must be a string or an object");
}

static void runtimes_share_a_library(void) {
    dynamo_runtime_t *const first = create(ENGINE_LIBRARY);
    CHECK(first != NULL);
    char *text = dynamo_runtime_models(first);
    CHECK_CONTAINS(text, "\"id\":\"test_library\"");
    CHECK_CONTAINS(text, "\"engine\":\"test_library\"");
    dynamo_free(text);
    check_answer(sent(first, say("x")), "entries 1, starts 1", DYNAMO_END);
    /* By a link, and by a relative path. */
    CHECK(symlink(ENGINE_LIBRARY, path_of("liblinked.so")) == 0 && chdir(the_folder) == 0);
    dynamo_runtime_t *const second = create("liblinked.so");
    CHECK(second != NULL);
    check_answer(sent(second, say("x")), "entries 1, starts 2", DYNAMO_END);
    dynamo_runtime_destroy(first);
    dynamo_runtime_destroy(second);
    /* The engine's metrics appear once, although two instances run. */
    dynamo_runtime_t *const both = start(
        "{'models': [{'name': 'a', 'engine': {'library': 'liblinked.so'}}, "
        "{'name': 'b', 'engine': {'library': './liblinked.so'}}]}");
    check_answer(sent(both, ask("{'prompt': 'x', 'model': 'b'}")), "entries 1, starts 4",
                 DYNAMO_END);
    text = dynamo_runtime_metrics(both);
    const char *const own = strstr(text, "library_answers 1\n");
    CHECK(own != NULL && strstr(own + 1, "library_answers 1\n") == NULL);
    dynamo_free(text);
    dynamo_runtime_destroy(both);
    /* The library's name is not the name of a registered engine. */
    CHECK(dynamo_runtime_create("{\"engine\": \"test_library\"}") == NULL);
    CHECK_STATUS(dynamo_engine_unregister("test_library"), DYNAMO_ERROR_ENGINE_NOT_FOUND);
}

static void *create_one(void *unused) {
    (void)unused;
    dynamo_runtime_t *const runtime = create(ENGINE_LIBRARY);
    CHECK(runtime != NULL);
    dynamo_request_t *const request = sent(runtime, say("x"));
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    answer_free(&whole);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return NULL;
}

static void threads_may_load_a_library_at_once(void) {
    pthread_t threads[8];
    for (int i = 0; i < 8; ++i) {
        threads[i] = spawn(create_one, NULL);
    }
    for (int i = 0; i < 8; ++i) {
        join(threads[i]);
    }
}

int main(void) {
    BEGIN();
    CHECK(mkdtemp(the_folder) != NULL);
    RUN(a_library_is_refused_with_the_reason);
    RUN(an_entry_function_may_refuse);
    RUN(wrong_configurations_are_refused);
    RUN(runtimes_share_a_library);
    RUN(threads_may_load_a_library_at_once);
    static const char *const files[] = {"libfifo.so", "libempty.so",  "libshort.so", "libfar.so",
                                        "libdata.so", "liblinked.so", "libtext.so"};
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        unlink(path_of(files[i]));
    }
    return rmdir(the_folder) == 0 ? 0 : 1;
}
