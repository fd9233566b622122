// SPDX-License-Identifier: Apache-2.0
// The coroutine that the task of a request runs. It is written in C++, so no Python frame lies between the
// asyncio event loop and the engine's generator.
//
//   drain.cpp       its work: opens the answer, pushes the chunks, closes the generator, ends the request
//   drain_type.cpp  its Python type: send(), throw(), close(), and garbage collection
#pragma once

#include <Python.h>

#include <chrono>

#include "python/api.hpp"
#include "python/gathered_chunks.hpp"

namespace dynamo::python {

// Owns its PyObject members; each may be nullptr.
struct Drain {
    using Clock = std::chrono::steady_clock;
    enum class State : unsigned char {
        opening,  // waits for `open`, which returns the answer
        reading,  // waits for the engine's next chunk
        full,     // waits until the stream is writable
        closing,  // waits for the generator to close
        ended,
    };

    PyObject_HEAD dynamo_stream_t *stream;
    PyObject *run;        // an object of runtime/request_task.py
    PyObject *awaited;    // the iterator that this coroutine is waiting for
    PyObject *answer;     // the engine's asynchronous iterator
    PyObject *on_pushed;  // called with each pushed chunk
    PyObject *rejected;   // the chunk to push once the stream is writable
    PyObject *engine;     // the engine's iterator, set aside until gathered chunks are pushed
    PyObject *held;       // what `engine` yielded, to be passed to the event loop afterwards
    PyObject *usage;
    PyObject *error;
    GatheredChunks *gathered;  // allocated on first use
    Clock::time_point since;   // when the clock was last read
    Clock::time_point turn;    // when this turn of the event loop began
    unsigned chunks;           // chunks taken in this turn
    State state;
    bool may_gather;
    bool gathers;
    bool is_running;
    bool is_exhausted;  // the engine has no more chunks
    bool is_over;       // close the answer once the gathered chunks have been pushed
};

// Replaces a member.
inline void set(PyObject *&member, PyObject *stolen) {
    PyObject *const before = member;
    member = stolen;
    Py_XDECREF(before);
}

// Returns the iterator that `await awaitable` would use, as a new reference, or nullptr with an exception set. Steals
// the argument.
PyObject *iterator_of(PyObject *awaitable);

// Starts to wait for the engine's next chunk. Returns false with an exception set on failure.
bool await_next(Drain *self);

// Resumes an iterator. Runs Python code; may be blocked here until the process ends (see gil.hpp).
PySendResult send_to(PyObject *iterator, PyObject *given, PyObject **value);

// Advances until the coroutine has to wait, and then returns PYGEN_NEXT with what it waits for. `outcome` and `value`
// are the latest result of the awaited iterator.
PySendResult advance(Drain *self, PySendResult outcome, PyObject *value, PyObject **result);

// Ends the request, after the whole answer or after an error.
void finish(Drain *self);

// Releases all Python objects.
void clear(Drain *self);

}  // namespace dynamo::python
