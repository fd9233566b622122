/* SPDX-License-Identifier: Apache-2.0 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dynamo_llm.h>
#include <stdio.h>

static PyObject *ask(PyObject *self, PyObject *prompt) {
    (void)self;
    const char *text = PyUnicode_AsUTF8(prompt);
    if (text == NULL)
        return NULL;
    char body[4096];
    snprintf(body, sizeof body, "{\"prompt\": \"%s\", \"stream\": false}", text);
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    dynamo_request_t *request = dynamo_request_create(body);
    PyObject *answer = NULL;
    if (dynamo_request_send(runtime, request) == DYNAMO_OK) {
        dynamo_response_t *response;
        Py_BEGIN_ALLOW_THREADS response = dynamo_request_recv(request);
        Py_END_ALLOW_THREADS if (response != NULL) answer =
            PyUnicode_FromString(dynamo_response_text(response, NULL));
        dynamo_free(response);
    }
    if (answer == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, dynamo_last_error());
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return answer;
}

static PyMethodDef methods[] = {{"ask", ask, METH_O, "The answer to a prompt."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_asking", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__asking(void) {
    return PyModule_Create(&module);
}
