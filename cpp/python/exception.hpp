// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Python.h>

namespace dynamo::python {

// Clears the current Python exception and returns it as a new reference; nullptr if there is none.
inline PyObject *take_exception() {
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type = nullptr;
    PyObject *value = nullptr;
    PyObject *trace = nullptr;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace != nullptr) {
        PyException_SetTraceback(value, trace);
    }
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
#endif
}

}  // namespace dynamo::python
