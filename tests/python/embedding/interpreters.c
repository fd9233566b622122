/* SPDX-License-Identifier: Apache-2.0 */
/* A program that embeds Python and gives an application a sub-interpreter. Its argument says who imports
 * dynamo_llm, and when. */
#include <Python.h>
#include <string.h>

static const char *const use =
    "import dynamo_llm\n"
    "with dynamo_llm.Runtime(engine='echo') as runtime:\n"
    "    print('main:', runtime.complete('hello').result().text, flush=True)\n";

static const char *const import =
    "try:\n"
    "    import dynamo_llm\n"
    "except ImportError as error:\n"
    "    print('ImportError:', error, flush=True)\n";

static void in_another(const char *code) {
    PyThreadState *const own = PyThreadState_Get();
    PyThreadState *const other = Py_NewInterpreter();
    if (other == NULL || PyRun_SimpleString(code) != 0) {
        exit(1);
    }
    Py_EndInterpreter(other);
    PyThreadState_Swap(own);
}

static void in_main(const char *code) {
    if (PyRun_SimpleString(code) != 0) {
        exit(1);
    }
}

int main(int count, char **words) {
    if (count != 2) {
        return 2;
    }
    const int uses_it = strcmp(words[1], "only there") != 0;
    Py_InitializeEx(0);
    if (strcmp(words[1], "main first") == 0) {
        in_main(use);
    }
    in_another(import);
    if (strcmp(words[1], "there first") == 0) {
        in_main(use);
    }
    in_another(import);
    if (uses_it) {
        in_main(use);
    }
    return Py_FinalizeEx() == 0 ? 0 : 1;
}
