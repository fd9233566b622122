// SPDX-License-Identifier: Apache-2.0
#include "python/drain.hpp"

#include <nanobind/nanobind.h>

#include <cstdint>
#include <new>
#include <utility>

#include "python/chunk.hpp"
#include "python/exception.hpp"
#include "python/gil.hpp"

namespace nb = nanobind;

namespace dynamo::python {
namespace {

using Clock = Drain::Clock;
using State = Drain::State;

// After this time, an engine that yields without a pause lets other tasks of the event loop run.
constexpr std::chrono::milliseconds longest_turn{10};
// The number of chunks between two reads of the clock. If they arrive within `quick`, the following chunks are
// gathered.
constexpr unsigned chunks_between_looks = 16;
constexpr std::chrono::microseconds quick{200};

// Starts to wait for an awaitable, which it steals. Returns false with an exception set on failure.
bool await(Drain *self, PyObject *awaitable) {
    set(self->awaited, iterator_of(awaitable));
    return self->awaited != nullptr;
}

bool await_writable(Drain *self) {
    self->state = State::full;
    static PyObject *const name = PyUnicode_InternFromString("wait_until_writable");
    return await(self, PyObject_CallMethodNoArgs(self->run, name));
}

// Returns DYNAMO_OK, PENDING, or CANCELLED. With any other status an exception is set.
std::int32_t push_gathered(Drain *self) {
    if (self->gathered == nullptr || self->gathered->is_empty()) {
        return DYNAMO_OK;
    }
    const std::int32_t status = push(self->stream, self->gathered->chunk());
    if (status != DYNAMO_PENDING) {
        self->gathered->clear();
    }
    return status;
}

// Gathers or pushes a chunk. Returns DYNAMO_OK, PENDING (keep the chunk until the stream is writable), or CANCELLED.
// With any other status an exception is set.
std::int32_t take(Drain *self, PyObject *dict) {
    try {
        Chunk chunk;
        if (!chunk.read(dict)) {
            return DYNAMO_ERROR_INTERNAL;
        }
        std::int32_t status = DYNAMO_OK;
        const bool gathers = self->gathers && chunk.usage == nullptr && !chunk.has_surrogates;
        if (!gathers || !self->gathered->takes(chunk.what)) {
            status = push_gathered(self);
        }
        if (status != DYNAMO_OK) {
            return status;
        }
        if (gathers && self->gathered->takes(chunk.what)) {
            self->gathered->add(chunk.what);
            return DYNAMO_OK;
        }
        status = push(self->stream, chunk);
        if (chunk.usage != nullptr && (status == DYNAMO_OK || status == DYNAMO_ERROR_CANCELLED)) {
            set(self->usage, Py_NewRef(chunk.usage));
        }
        if (status != DYNAMO_OK) {
            return status;
        }
        if (self->on_pushed != nullptr) {
            const nb::object done = nb::steal(PyObject_CallOneArg(self->on_pushed, dict));
            return done.is_valid() ? DYNAMO_OK : DYNAMO_ERROR_INTERNAL;
        }
        return DYNAMO_OK;
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
        return DYNAMO_ERROR_OUT_OF_MEMORY;
    }
}

// Called after each chunk; reads the clock only occasionally. Returns true if other tasks should run now.
bool has_had_its_turn(Drain *self) {
    if (++self->chunks == 1) {
        return false;
    }
    if (self->chunks == 2) {
        self->turn = self->since = Clock::now();
        return false;
    }
    if (self->chunks % chunks_between_looks != 0) {
        return false;
    }
    const Clock::time_point now = Clock::now();
    self->gathers = self->may_gather && now - self->since < quick;
    if (self->gathers && self->gathered == nullptr) {
        self->gathered = new (std::nothrow) GatheredChunks;
        self->gathers = self->gathered != nullptr;
    }
    self->since = now;
    return now - self->turn >= longest_turn;
}

void new_turn(Drain *self) {
    self->chunks = 0;
    self->gathers = false;
}

// Fails the stream with a tuple of status, message, and details. Returns false with an exception set if the object
// is not such a tuple.
bool fail_stream(dynamo_stream_t *stream, PyObject *failure) {
    int status = 0;
    const char *message = nullptr;
    const char *detail = nullptr;
    if (!PyTuple_Check(failure)) {
        PyErr_SetString(PyExc_TypeError, "end() gives None or a tuple of three");
        return false;
    }
    if (PyArg_ParseTuple(failure, "iss", &status, &message, &detail) == 0) {
        return false;
    }
    dynamo_stream_fail(stream, status, message, detail[0] == '\0' ? nullptr : detail);
    return true;
}

// Starts to close the generator, or ends the request if it need not be closed. If an exception is set, the
// request ends with it.
void close_answer(Drain *self) {
    if (PyErr_Occurred() != nullptr) {
        set(self->error, take_exception());
    }
    set(self->rejected, nullptr);
    set(self->engine, nullptr);
    set(self->held, nullptr);
    if (self->state == State::closing || self->answer == nullptr) {
        finish(self);
        return;
    }
    if (self->state == State::reading) {  // the caller still receives the chunks before an error
        const std::int32_t status = push_gathered(self);
        if (status == DYNAMO_PENDING) {
            self->is_over = true;
            if (await_writable(self)) {
                return;
            }
        }
        if (PyErr_Occurred() != nullptr) {
            set(self->error, take_exception());
        }
    }
    if (self->is_exhausted && PyAsyncGen_CheckExact(self->answer)) {  // already closed
        finish(self);
        return;
    }
    self->state = State::closing;
    const nb::object close = nb::steal(PyObject_GetAttrString(self->answer, "aclose"));
    if (!close.is_valid()) {
        PyErr_Clear();
        finish(self);
        return;
    }
    if (!await(self, PyObject_CallNoArgs(close.ptr()))) {
        set(self->error, take_exception());
        finish(self);
    }
}

// Handles a new chunk, or the rejected one once the stream is writable. May set an exception.
void on_chunk(Drain *self, PyObject *dict) {
    switch (take(self, dict)) {
        case DYNAMO_OK:
            break;
        case DYNAMO_PENDING:
            set(self->rejected, Py_NewRef(dict));
            await_writable(self);
            break;
        default:  // an exception is set, or the request was cancelled
            if (PyErr_Occurred() == nullptr) {
                close_answer(self);
            }
    }
}

// Handles the result of the awaited iterator, which it steals, and starts the next step. May set an exception.
void on_result(Drain *self, PyObject *result) {
    const nb::object value = nb::steal(result);
    switch (self->state) {
        case State::opening: {
            if (result == Py_None) {  // the request was passed on, and the stream with it
                self->state = State::ended;
                clear(self);
                return;
            }
            // (answer, on_pushed, usage)
            if (!PyTuple_CheckExact(result) || PyTuple_GET_SIZE(result) != 3) {
                PyErr_SetString(PyExc_TypeError,
                                "opening an answer gives None or a tuple of three");
                return;
            }
            PyObject *const answer = PyTuple_GET_ITEM(result, 0);
            PyObject *const on_pushed = PyTuple_GET_ITEM(result, 1);
            PyObject *const usage = PyTuple_GET_ITEM(result, 2);
            if (on_pushed != Py_None) {
                self->on_pushed = Py_NewRef(on_pushed);
                self->may_gather = false;
            }
            set(self->usage, usage == Py_None ? nullptr : Py_NewRef(usage));
            set(self->awaited, nullptr);
            if (answer == Py_None) {
                finish(self);
                return;
            }
            const PyAsyncMethods *const methods = Py_TYPE(answer)->tp_as_async;
            if (methods == nullptr || methods->am_aiter == nullptr) {
                PyErr_Format(PyExc_TypeError,
                             "'async for' requires an object with __aiter__ method, got %s",
                             Py_TYPE(answer)->tp_name);
                return;
            }
            self->answer = methods->am_aiter(answer);
            if (self->answer != nullptr) {
                await_next(self);
            }
            return;
        }
        case State::reading:
            set(self->awaited, nullptr);
            on_chunk(self, result);
            return;
        case State::full: {
            set(self->awaited, nullptr);
            self->state = State::reading;
            if (self->rejected != nullptr) {
                const nb::object chunk = nb::steal(std::exchange(self->rejected, nullptr));
                on_chunk(self, chunk.ptr());
            } else if (push_gathered(self) == DYNAMO_PENDING) {
                await_writable(self);
            } else if (PyErr_Occurred() != nullptr || self->is_over) {
                close_answer(self);
            } else {  // resume the engine, which may have made progress meanwhile
                set(self->awaited, std::exchange(self->engine, nullptr));
            }
            return;
        }
        case State::closing:
            finish(self);
            return;
        case State::ended:
            return;
    }
}

// Handles an exception of the awaited iterator, or a failure to await it.
void on_exception(Drain *self) {
    if (self->state == State::reading && PyErr_ExceptionMatches(PyExc_StopAsyncIteration) != 0) {
        PyErr_Clear();
        self->is_exhausted = true;
    }
    set(self->awaited, nullptr);
    close_answer(self);
}

// Returns false without an exception if the value is not a chunk; take() then reads it again and sets the exception.
bool try_to_read(Chunk &chunk, PyObject *value) noexcept {
    try {
        if (PyDict_CheckExact(value) && chunk.read(value)) {
            return true;
        }
        PyErr_Clear();
    } catch (const std::bad_alloc &) {
    }
    return false;
}

// Gathers a chunk and those that follow it without a pause, until one cannot be gathered. `outcome` and `value`
// are replaced with the latest result of the iterator. Returns false if it gathered nothing.
bool gather(Drain *self, PySendResult &outcome, PyObject *&value) {
    const unaryfunc anext = Py_TYPE(self->answer)->tp_as_async->am_anext;
    bool has_gathered = false;
    while (outcome == PYGEN_RETURN && (self->chunks + 1) % chunks_between_looks != 0) {
        Chunk chunk;
        if (!try_to_read(chunk, value)) {
            break;
        }
        if (chunk.usage != nullptr || chunk.has_surrogates || !self->gathered->takes(chunk.what)) {
            break;
        }
        self->gathered->add(chunk.what);
        has_gathered = true;
        ++self->chunks;
        Py_DECREF(value);
        value = nullptr;
        set(self->awaited, iterator_of(anext(self->answer)));
        outcome = self->awaited == nullptr ? PYGEN_ERROR : send_to(self->awaited, Py_None, &value);
    }
    return has_gathered;
}

}  // namespace

PyObject *iterator_of(PyObject *awaitable) {
    if (awaitable == nullptr || PyCoro_CheckExact(awaitable)) {
        return awaitable;
    }
    const PyAsyncMethods *const methods = Py_TYPE(awaitable)->tp_as_async;
    const unaryfunc am_await = methods == nullptr ? nullptr : methods->am_await;
    // The iterator is the object itself if it comes from a generator's __anext__(), or from types.coroutine().
    if (am_await == PyObject_SelfIter || (am_await == nullptr && PyGen_CheckExact(awaitable))) {
        return awaitable;
    }
    PyObject *iterator = nullptr;
    if (am_await != nullptr) {
        iterator = am_await(awaitable);
    } else {
        PyErr_Format(PyExc_TypeError, "object %s can't be used in 'await' expression",
                     Py_TYPE(awaitable)->tp_name);
    }
    Py_DECREF(awaitable);
    return iterator;
}

bool await_next(Drain *self) {
    const PyAsyncMethods *const methods = Py_TYPE(self->answer)->tp_as_async;
    if (methods == nullptr || methods->am_anext == nullptr) {
        PyErr_Format(PyExc_TypeError, "an asynchronous iterator has __anext__(), and %s has not",
                     Py_TYPE(self->answer)->tp_name);
        return false;
    }
    self->state = State::reading;
    return await(self, methods->am_anext(self->answer));
}

PySendResult send_to(PyObject *iterator, PyObject *given, PyObject **value) {
    return without_thread_exit([=] { return PyIter_Send(iterator, given, value); });
}

PySendResult advance(Drain *self, PySendResult outcome, PyObject *value, PyObject **result) {
    while (true) {
        switch (outcome) {
            case PYGEN_NEXT:
                if (self->state == State::reading && self->gathered != nullptr &&
                    !self->gathered->is_empty()) {
                    const std::int32_t status = push_gathered(self);
                    if (status == DYNAMO_PENDING) {
                        // The engine waits for something, and the stream is full: wait until it is writable, then
                        // continue the engine's wait.
                        set(self->engine, std::exchange(self->awaited, nullptr));
                        set(self->held, value);
                        if (!await_writable(self)) {
                            outcome = PYGEN_ERROR;
                            continue;
                        }
                        break;
                    }
                    PyErr_Clear();  // the next push reports the same error
                }
                new_turn(self);
                *result = value;
                return PYGEN_NEXT;
            case PYGEN_RETURN:
                if (self->gathers && self->state == State::reading &&
                    gather(self, outcome, value)) {
                    continue;
                }
                on_result(self, value);
                break;
            case PYGEN_ERROR:
                on_exception(self);
                break;
        }
        if (PyErr_Occurred() != nullptr) {
            close_answer(self);
        }
        if (self->state == State::ended) {
            *result = Py_NewRef(Py_None);
            return PYGEN_RETURN;
        }
        if (self->held != nullptr && self->engine == nullptr && self->state == State::reading) {
            new_turn(self);
            *result = std::exchange(self->held, nullptr);
            return PYGEN_NEXT;
        }
        if (self->awaited == nullptr) {  // a chunk was gathered or pushed
            if (has_had_its_turn(self)) {
                value = Py_NewRef(Py_None);
                outcome = PYGEN_NEXT;
                continue;  // yields None to the event loop, like asyncio.sleep(0)
            }
            if (!await_next(self)) {
                outcome = PYGEN_ERROR;
                continue;
            }
        }
        outcome = send_to(self->awaited, Py_None, &value);
    }
}

void finish(Drain *self) {
    self->state = State::ended;
    dynamo_usage_t counts{};
    const bool has_counts = self->error == nullptr && self->usage != nullptr;
    if (has_counts && !read_usage(self->usage, counts)) {
        set(self->error, take_exception());
    }
    static PyObject *const name = PyUnicode_InternFromString("end");
    PyObject *const error = self->error == nullptr ? Py_None : self->error;
    PyObject *const usage = self->usage == nullptr ? Py_None : self->usage;
    const nb::object failure = nb::steal(without_thread_exit(
        [=] { return PyObject_CallMethodObjArgs(self->run, name, usage, error, nullptr); }));
    // Releases all objects, like a finished coroutine, which has no frame. This happens before the caller sees the
    // end, because an error may keep many of the engine's objects alive.
    clear(self);
    forget_halves(self->stream);
    if (failure.is_none()) {
        dynamo_stream_finish(self->stream, nullptr, has_counts ? &counts : nullptr);
    } else if (!failure.is_valid() || !fail_stream(self->stream, failure.ptr())) {
        PyErr_WriteUnraisable(reinterpret_cast<PyObject *>(self));
        dynamo_stream_fail(self->stream, DYNAMO_ERROR_INTERNAL,
                           "the end of the request failed; the program's log says how", nullptr);
    }
}

void clear(Drain *self) {
    for (PyObject **member :
         {&self->run, &self->awaited, &self->answer, &self->on_pushed, &self->rejected,
          &self->engine, &self->held, &self->usage, &self->error}) {
        set(*member, nullptr);
    }
}

}  // namespace dynamo::python
