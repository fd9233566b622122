/* SPDX-License-Identifier: Apache-2.0 */
/* A program that embeds Python itself: before it uses the library, after that, or not at all. It finalizes
 * Python, whoever has started it, and may start it again. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "dynamo_llm.h"

#define CHECK(condition) \
    ((condition)         \
         ? (void)0       \
         : (fprintf(stderr, "%d: %s; %s\n", __LINE__, #condition, dynamo_last_error()), exit(1)))

static void ask(dynamo_runtime_t *runtime, const char *expected) {
    char text[100] = "";
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"a b\"}");
    CHECK(dynamo_request_send(runtime, request) == DYNAMO_OK);
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        strcat(text, dynamo_response_text(response, NULL));
        dynamo_free(response);
    }
    CHECK(dynamo_request_status(request) == DYNAMO_END && strcmp(text, expected) == 0);
    dynamo_request_destroy(request);
}

static void use_python(void) {
    const PyGILState_STATE state = PyGILState_Ensure();
    CHECK(PyRun_SimpleString("assert sum(range(1000)) == 499500") == 0);
    PyGILState_Release(state);
}

int main(int count, char **words) {
    CHECK(count == 3);
    PyThreadState *state = NULL;
    if (strcmp(words[1], "before") == 0) {
        Py_InitializeEx(0);
        state = PyEval_SaveThread();
    }
    dynamo_runtime_t *python = dynamo_runtime_create(words[2]);
    CHECK(python != NULL);
    dynamo_runtime_t *native = dynamo_runtime_create("{\"engine\": \"echo\"}");
    CHECK(native != NULL);
    if (strcmp(words[1], "after") == 0) {
        CHECK(Py_IsInitialized());
        Py_InitializeEx(0); /* does nothing: it runs already */
    }
    for (int i = 0; i < 10; ++i) {
        ask(python, "a b ");
        ask(native, "a b");
        use_python();
    }
    if (state != NULL) {
        PyEval_RestoreThread(state);
    } else {
        (void)PyGILState_Ensure();
    }
    CHECK(Py_FinalizeEx() == 0);
    ask(native, "a b"); /* what needs no Python still works */
    dynamo_request_t *late = dynamo_request_create("{\"prompt\": \"x\"}");
    CHECK(dynamo_request_send(python, late) == DYNAMO_ERROR_CLOSED);
    dynamo_request_destroy(late);
    if (strcmp(words[1], "before") == 0) { /* another Python: the library's engines had the first */
        Py_InitializeEx(0);
        CHECK(PyRun_SimpleString("assert sum(range(1000)) == 499500") == 0);
        state = PyEval_SaveThread();
        CHECK(dynamo_runtime_create(words[2]) == NULL &&
              dynamo_last_status() == DYNAMO_ERROR_CLOSED);
        ask(native, "a b");
        PyEval_RestoreThread(state);
        CHECK(Py_FinalizeEx() == 0);
    }
    dynamo_runtime_destroy(python);
    dynamo_runtime_destroy(native);
    puts("done");
    return 0;
}
