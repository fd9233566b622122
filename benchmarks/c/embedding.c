/* SPDX-License-Identifier: Apache-2.0 */
/* Does what a program that embeds Python by hand does: for each token it advances the engine's generator with the GIL
 * held, and reads the chunk.
 *
 *   embedding FOLDER MODULE CLASS PROMPT HOW BUSY
 *
  * HOW is "thread" or "own". "thread": the asyncio event loop runs in a Python thread, as programs with several callers
 * need it, and a token is run_coroutine_threadsafe(anext(answer), loop).result(). "own": the caller itself runs the
 * event loop, run_until_complete(anext(answer)), one stream at a time. If BUSY is 1, a Python thread computes
 * meanwhile. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>
#include <time.h>

static const char setup[] =
    "import asyncio, importlib, sys, threading\n"
    "from types import SimpleNamespace\n"
    "def prepare(folder, module, kind, how, busy):\n"
    "    sys.path.insert(0, folder)\n"
    "    engine = getattr(importlib.import_module(module), kind)(None)\n"
    "    loop = asyncio.new_event_loop()\n"
    "    if how == 'thread':\n"
    "        threading.Thread(target=loop.run_forever, daemon=True).start()\n"
    "    def spin():\n"
    "        while True:\n"
    "            pass\n"
    "    if busy == '1':\n"
    "        threading.Thread(target=spin, daemon=True).start()\n"
    "    async def read(answer):\n"
    "        return await anext(answer, None)\n"
    "    def begin(prompt):\n"
    "        return engine.generate(SimpleNamespace(body={'prompt': prompt}))\n"
    "    def step(answer):\n"
    "        if how == 'thread':\n"
    "            return asyncio.run_coroutine_threadsafe(read(answer), loop).result()\n"
    "        return loop.run_until_complete(read(answer))\n"
    "    return begin, step\n";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static PyObject *expect(PyObject *object) {
    if (object == NULL) {
        PyErr_Print();
        exit(1);
    }
    return object;
}

/* Returns the number of tokens in the next chunk, or -1 after the last one. */
static Py_ssize_t next_token(PyObject *step, PyObject *answer) {
    const PyGILState_STATE state = PyGILState_Ensure();
    PyObject *const chunk = expect(PyObject_CallOneArg(step, answer));
    Py_ssize_t count = -1;
    if (chunk != Py_None) {
        count = PyList_Size(PyDict_GetItemString(chunk, "token_ids"));
        Py_ssize_t length = 0;
        if (PyUnicode_AsUTF8AndSize(PyDict_GetItemString(chunk, "text"), &length) == NULL) {
            exit(1);
        }
    }
    Py_DECREF(chunk);
    PyGILState_Release(state);
    return count;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: embedding FOLDER MODULE CLASS PROMPT HOW BUSY\n");
        return 2;
    }
    Py_Initialize();
    PyObject *const module = expect(PyImport_AddModule("__main__"));
    PyObject *const names = PyModule_GetDict(module);
    Py_DECREF(expect(PyRun_String(setup, Py_file_input, names, names)));
    PyObject *const both =
        expect(PyObject_CallFunction(PyDict_GetItemString(names, "prepare"), "sssss", argv[1],
                                     argv[2], argv[3], argv[5], argv[6]));
    PyObject *const begin = PyTuple_GetItem(both, 0);
    PyObject *const step = PyTuple_GetItem(both, 1);
    PyEval_SaveThread();

    printf("ready\n");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const double since = now();
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *const answer = expect(PyObject_CallFunction(begin, "s", argv[4]));
        PyGILState_Release(state);
        Py_ssize_t tokens = 0, count;
        while ((count = next_token(step, answer)) >= 0) {
            tokens += count;
        }
        state = PyGILState_Ensure();
        Py_DECREF(answer);
        PyGILState_Release(state);
        printf("{\"tokens\": %zd, \"seconds\": %.9f}\n", tokens, now() - since);
        fflush(stdout);
    }
    return 0;
}
