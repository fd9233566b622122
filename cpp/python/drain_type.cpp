// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "python/bindings.hpp"
#include "python/drain.hpp"
#include "python/exception.hpp"
#include "python/gil.hpp"

namespace nb = nanobind;

namespace dynamo::python {
namespace {

using State = Drain::State;

// The number of Drain objects (protected by the GIL), and the number above which they do not fit into a CPU cache.
std::size_t drains = 0;
constexpr std::size_t many = 512;

// Marks the coroutine as running during a step, which must not start another one.
struct Running {
    explicit Running(Drain *self) : drain(self) { drain->is_running = true; }
    Running(const Running &) = delete;
    ~Running() { drain->is_running = false; }
    Drain *const drain;
};

// Returns false with an exception set if the coroutine is running or has ended.
bool may_run(const Drain *self) {
    if (self->is_running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    } else if (self->state == State::ended) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    } else {
        return true;
    }
    return false;
}

PySendResult send(PyObject *object, PyObject *given, PyObject **result) {
    auto *const self = reinterpret_cast<Drain *>(object);
    *result = nullptr;
    if (!may_run(self)) {
        return PYGEN_ERROR;
    }
    const Running running(self);
    PyObject *value = nullptr;
    if (drains > many) {
        // With this many requests, the stream is no longer in the CPU's cache. This call brings it back into the
        // cache while the engine produces its token.
        dynamo_stream_is_cancelled(self->stream);
    }
    if (self->awaited == nullptr && !await_next(self)) {  // the previous step ended a turn
        return advance(self, PYGEN_ERROR, nullptr, result);
    }
    const PySendResult outcome = send_to(self->awaited, given, &value);
    return advance(self, outcome, value, result);
}

// Converts a PySendResult for send() and throw() as methods, which report a return with StopIteration.
PyObject *as_method(PySendResult outcome, PyObject *result) {
    if (outcome == PYGEN_RETURN) {
        Py_DECREF(result);
        PyErr_SetNone(PyExc_StopIteration);
        return nullptr;
    }
    return result;
}

PyObject *send_method(PyObject *self, PyObject *given) {
    PyObject *result = nullptr;
    const PySendResult outcome = send(self, given, &result);
    return as_method(outcome, result);
}

PyObject *next(PyObject *self) {
    return send_method(self, Py_None);
}

// Raises an exception in the awaited iterator. The arguments are those of a coroutine's throw().
PySendResult raise(Drain *self, PyObject *arguments, PyObject **result) {
    *result = nullptr;
    const Running running(self);
    if (self->engine != nullptr) {  // raise in the engine, not in the wait for the stream
        set(self->awaited, std::exchange(self->engine, nullptr));
        set(self->held, nullptr);
        self->state = State::reading;
    }
    const nb::object raise_there = nb::steal(
        self->awaited == nullptr ? nullptr : PyObject_GetAttrString(self->awaited, "throw"));
    if (!raise_there.is_valid()) {
        PyErr_Clear();
        PyObject *type = nullptr;
        PyObject *value = nullptr;
        PyObject *trace = nullptr;
        if (PyArg_ParseTuple(arguments, "O|OO", &type, &value, &trace) == 0) {
            return PYGEN_ERROR;
        }
        if (PyExceptionInstance_Check(type)) {
            PyErr_SetObject(PyExceptionInstance_Class(type), type);
        } else {
            PyErr_SetObject(type, value);
        }
        return advance(self, PYGEN_ERROR, nullptr, result);
    }
    PyObject *const function = raise_there.ptr();
    PyObject *value = without_thread_exit([=] { return PyObject_CallObject(function, arguments); });
    if (value != nullptr) {
        return advance(self, PYGEN_NEXT, value, result);
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration) != 0) {
        const nb::object stop = nb::steal(take_exception());
        value = PyObject_GetAttrString(stop.ptr(), "value");
        return advance(self, value == nullptr ? PYGEN_ERROR : PYGEN_RETURN, value, result);
    }
    return advance(self, PYGEN_ERROR, nullptr, result);
}

PyObject *throw_method(PyObject *object, PyObject *arguments) {
    auto *const self = reinterpret_cast<Drain *>(object);
    if (!may_run(self)) {
        return nullptr;
    }
    PyObject *result = nullptr;
    const PySendResult outcome = raise(self, arguments, &result);
    return as_method(outcome, result);
}

PyObject *close_method(PyObject *object, PyObject *) {
    auto *const self = reinterpret_cast<Drain *>(object);
    if (self->is_running) {
        may_run(self);
        return nullptr;
    }
    if (self->state != State::ended && self->run != nullptr) {
        const nb::object arguments = nb::steal(PyTuple_Pack(1, PyExc_GeneratorExit));
        PyObject *result = nullptr;
        const PySendResult outcome =
            arguments.is_valid() ? raise(self, arguments.ptr(), &result) : PYGEN_ERROR;
        Py_XDECREF(result);
        if (outcome == PYGEN_NEXT) {
            // The engine tries to wait, but a closed coroutine cannot wait on the event loop.
            PyErr_SetString(PyExc_RuntimeError, "coroutine ignored GeneratorExit");
            set(self->error, take_exception());
            finish(self);
        } else if (outcome == PYGEN_ERROR) {
            return nullptr;
        }
    }
    Py_RETURN_NONE;
}

int clear_objects(PyObject *object) {
    clear(reinterpret_cast<Drain *>(object));
    return 0;
}

int traverse(PyObject *object, visitproc visit, void *arg) {
    auto *const self = reinterpret_cast<Drain *>(object);
    Py_VISIT(Py_TYPE(object));
    for (PyObject *member : {self->run, self->awaited, self->answer, self->on_pushed,
                             self->rejected, self->engine, self->held, self->usage, self->error}) {
        Py_VISIT(member);
    }
    return 0;
}

// The request must end even if its task is garbage collected.
void finalize(PyObject *object) {
    const nb::error_scope saved;
    const nb::object closed = nb::steal(close_method(object, nullptr));
    if (!closed.is_valid()) {
        PyErr_WriteUnraisable(object);
    }
}

void dealloc(PyObject *object) {
    if (PyObject_CallFinalizerFromDealloc(object) < 0) {
        return;  // the finalizer resurrected it
    }
    PyTypeObject *const type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    auto *const self = reinterpret_cast<Drain *>(object);
    clear(self);
    delete self->gathered;
    --drains;
    type->tp_free(object);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"send", send_method, METH_O, "Resumes the coroutine."},
    {"throw", throw_method, METH_VARARGS, "Raises an exception in what the coroutine waits for."},
    {"close", close_method, METH_NOARGS, "Ends the request without the event loop."},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear_objects)},
    {Py_tp_finalize, reinterpret_cast<void *>(finalize)},
    {Py_tp_iter, reinterpret_cast<void *>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void *>(next)},
    {Py_tp_methods, methods},
    {Py_am_await, reinterpret_cast<void *>(PyObject_SelfIter)},
    {Py_am_send, reinterpret_cast<void *>(send)},
    {0, nullptr},
};

PyType_Spec spec = {"dynamo_llm._core.Drain", sizeof(Drain), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, slots};

nb::object drain(std::uintptr_t stream, nb::handle open, nb::handle run, bool may_gather) {
    static auto *const type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    PyObject *const object = type == nullptr ? nullptr : type->tp_alloc(type, 0);
    nb::object result = nb::steal(object);
    if (!result.is_valid()) {
        nb::raise_python_error();
    }
    ++drains;
    auto *const self = reinterpret_cast<Drain *>(object);
    self->state = State::ended;  // until all members are set
    self->stream = reinterpret_cast<dynamo_stream_t *>(stream);
    self->may_gather = may_gather;
    self->awaited = iterator_of(Py_NewRef(open.ptr()));
    if (self->awaited == nullptr) {
        nb::raise_python_error();
    }
    self->run = Py_NewRef(run.ptr());
    self->state = State::opening;
    return result;
}

}  // namespace

void bind_drain(nb::module_ &m) {
    using namespace nb::literals;
    m.def(
        "drain", &drain, "stream"_a, "open"_a, "run"_a, "may_gather"_a,
        nb::sig("def drain(stream: int, "
                "open: collections.abc.Coroutine[typing.Any, typing.Any, tuple[typing.Any, "
                "typing.Any, typing.Any]], "
                "run: typing.Any, "
                "may_gather: bool) -> "
                "collections.abc.Coroutine[typing.Any, typing.Any, None]"),
        "Returns a coroutine that pushes an answer into a stream. `open` returns (answer, "
        "on_pushed, usage): the asynchronous iterator of the chunks, or None if there is nothing "
        "to read; a function to call with each pushed chunk, or None; the counts so far, or None. "
        "While the stream is full, `run.wait_until_writable()` is awaited. At the end, the answer "
        "is "
        "closed, and `run.end(usage, error)` is called, which does not raise: if it returns None, "
        "the stream is finished; otherwise it fails with the returned status, message, and details "
        "(JSON). may_gather: chunks that arrive without a pause may be pushed together.");
}

}  // namespace dynamo::python
