/* SPDX-License-Identifier: Apache-2.0 */
/* An extension module that is a host of the library: ask(config, way) runs a request, and gives its text. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <string.h>

#include "dynamo_llm.h"

struct call {
    const char *config;
    char text[1000];
    char error[1000];
};

static void run(struct call *call) {
    dynamo_runtime_t *runtime = dynamo_runtime_create(call->config);
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"a b\"}");
    if (runtime == NULL || dynamo_request_send(runtime, request) != DYNAMO_OK) {
        snprintf(call->error, sizeof call->error, "%s", dynamo_last_error());
    } else {
        dynamo_response_t *response;
        while ((response = dynamo_request_recv(request)) != NULL) {
            strncat(call->text, dynamo_response_text(response, NULL), 100);
            dynamo_free(response);
        }
        if (dynamo_last_status() < 0) {
            snprintf(call->error, sizeof call->error, "%s", dynamo_last_error());
        }
    }
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void *run_in_thread(void *call) {
    run(call);
    return NULL;
}

static PyObject *ask(PyObject *module, PyObject *arguments) {
    (void)module;
    struct call call = {NULL, "", ""};
    const char *way;
    if (!PyArg_ParseTuple(arguments, "ss", &call.config, &way)) {
        return NULL;
    }
    if (strcmp(way, "in a thread") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run_in_thread, &call) != 0) {
            return PyErr_NoMemory();
        }
        Py_BEGIN_ALLOW_THREADS;
        pthread_join(thread, NULL);
        Py_END_ALLOW_THREADS;
    } else if (strcmp(way, "without the GIL") == 0) {
        Py_BEGIN_ALLOW_THREADS;
        run(&call);
        Py_END_ALLOW_THREADS;
    } else {
        run(&call);
    }
    if (call.error[0] != '\0') {
        PyErr_SetString(PyExc_RuntimeError, call.error);
        return NULL;
    }
    return PyUnicode_FromString(call.text);
}

static PyMethodDef methods[] = {{"ask", ask, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "extension", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_extension(void);
PyMODINIT_FUNC PyInit_extension(void) {
    return PyModule_Create(&definition);
}
