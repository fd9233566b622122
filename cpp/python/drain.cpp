// SPDX-License-Identifier: Apache-2.0
#include <Python.h>

#include "python/drain.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "base/text.hpp"
#include "python/api.hpp"
#include "python/chunk.hpp"
#include "python/gil.hpp"

namespace nb = nanobind;

namespace dynamo::python {
namespace {

using Clock = std::chrono::steady_clock;

// Gathers chunks that an engine yields without a pause, and pushes them into the stream as one. They are only
// microseconds apart, so this does not noticeably delay the first one.
class Gathered {
  public:
    bool is_empty() const noexcept { return tokens_ == 0; }

    // Returns whether a chunk can be gathered: it has only text and token IDs, has IDs if the gathered chunks
    // have them, and fits.
    bool takes(const dynamo_chunk_t &chunk) const noexcept {
        const std::size_t count = chunk.token_count == 0 ? 1 : chunk.token_count;
        return chunk.delta_json == nullptr && chunk.logprobs_json == nullptr &&
               chunk.data == nullptr && chunk.finish_reason == nullptr && chunk.index == 0 &&
               (chunk.text_length > 0 || chunk.token_count > 0) &&
               (is_empty() || has_ids_ == (chunk.token_count > 0)) &&
               chunk.text_length <= most_bytes - bytes_ && count <= most_tokens - tokens_;
    }

    // Requires takes(chunk).
    void add(const dynamo_chunk_t &chunk) noexcept {
        copy_short(text_ + bytes_, chunk.text, chunk.text_length);
        bytes_ += chunk.text_length;
        for (std::size_t i = 0; i < chunk.token_count; ++i) {
            ids_[tokens_ + i] = chunk.token_ids[i];
        }
        has_ids_ = chunk.token_count > 0;
        tokens_ += has_ids_ ? chunk.token_count : 1;
    }

    dynamo_chunk_t chunk() const noexcept {
        dynamo_chunk_t all{};
        all.struct_size = sizeof all;
        all.text = text_;
        all.text_length = bytes_;
        all.token_ids = has_ids_ ? ids_ : nullptr;
        all.token_count = tokens_;
        return all;
    }

    void clear() noexcept { tokens_ = bytes_ = 0; }

  private:
    static constexpr std::size_t most_tokens = 64;
    static constexpr std::size_t most_bytes = 1024;

    std::size_t tokens_ = 0;
    std::size_t bytes_ = 0;
    bool has_ids_ = false;
    std::uint32_t ids_[most_tokens];
    char text_[most_bytes];
};

enum class State : unsigned char {
    opening,  // waits for `open`, which returns the answer
    reading,  // waits for the engine's next chunk
    full,     // waits until the stream is writable
    closing,  // waits for the generator to close
    ended,
};

// The coroutine of one request. It owns its PyObject members; each may be nullptr.
struct Drain {
    PyObject_HEAD dynamo_stream_t *stream;
    PyObject *run;       // an object of runtime/request_task.py
    PyObject *awaited;   // the iterator that this coroutine is waiting for
    PyObject *answer;    // the engine's asynchronous iterator
    PyObject *see;       // called with each pushed chunk
    PyObject *rejected;  // the chunk to push once the stream is writable
    PyObject *engine;    // the engine's iterator, set aside until gathered chunks are pushed
    PyObject *held;      // what `engine` yielded, to be passed to the event loop afterwards
    PyObject *usage;
    PyObject *error;
    Gathered *gathered;       // allocated on first use
    Clock::time_point since;  // when the clock was last read
    Clock::time_point turn;   // when this turn of the event loop began
    unsigned chunks;          // chunks taken in this turn
    State state;
    bool may_gather;
    bool gathers;
    bool is_running;
    bool is_exhausted;  // the engine has no more chunks
    bool is_over;       // close the answer once the gathered chunks have been pushed
};

// After this time, an engine that yields without a pause lets other tasks of the event loop run.
constexpr std::chrono::milliseconds longest_turn{10};
// The number of chunks between two reads of the clock. If they arrive within `quick`, the following chunks are
// gathered.
constexpr unsigned chunks_between_looks = 16;
constexpr std::chrono::microseconds quick{200};

// The number of Drain objects (protected by the GIL), and the number above which they do not fit into a CPU cache.
std::size_t drains = 0;
constexpr std::size_t many = 512;

void set(PyObject *&member, PyObject *stolen) {
    PyObject *const before = member;
    member = stolen;
    Py_XDECREF(before);
}

// Clears the current exception and returns it as a new reference.
PyObject *take_exception() {
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

// Returns the iterator that `await awaitable` would use, as a new reference, or nullptr with an exception set. Steals
// the argument.
PyObject *iterator_of(PyObject *awaitable) {
    if (awaitable == nullptr || PyCoro_CheckExact(awaitable)) {
        return awaitable;
    }
    const PyAsyncMethods *const methods = Py_TYPE(awaitable)->tp_as_async;
    PyObject *iterator = nullptr;
    if (methods != nullptr &&
        methods->am_await == PyObject_SelfIter) {  // from a generator's __anext__()
        return awaitable;
    }
    if (methods != nullptr && methods->am_await != nullptr) {
        iterator = methods->am_await(awaitable);
    } else if (PyGen_CheckExact(awaitable)) {  // from types.coroutine()
        return awaitable;
    } else {
        PyErr_Format(PyExc_TypeError, "object %s can't be used in 'await' expression",
                     Py_TYPE(awaitable)->tp_name);
    }
    Py_DECREF(awaitable);
    return iterator;
}

// Starts to wait for an awaitable, which it steals. Returns false with an exception set on failure.
bool await(Drain *self, PyObject *awaitable) {
    set(self->awaited, iterator_of(awaitable));
    return self->awaited != nullptr;
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

bool await_space(Drain *self) {
    self->state = State::full;
    static PyObject *const name = PyUnicode_InternFromString("wait_for_space");
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
        if (status != DYNAMO_OK) {
            return status;
        }
        if (chunk.usage != nullptr) {
            set(self->usage, Py_NewRef(chunk.usage));
        }
        if (self->see != nullptr) {
            PyObject *const seen = PyObject_CallOneArg(self->see, dict);
            if (seen == nullptr) {
                return DYNAMO_ERROR_INTERNAL;
            }
            Py_DECREF(seen);
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
        self->gathered = new (std::nothrow) Gathered;
        self->gathers = self->gathered != nullptr;
    }
    self->since = now;
    return now - self->turn >= longest_turn;
}

void new_turn(Drain *self) {
    self->chunks = 0;
    self->gathers = false;
}

int clear(PyObject *object) {
    auto *const self = reinterpret_cast<Drain *>(object);
    for (PyObject **member :
         {&self->run, &self->awaited, &self->answer, &self->see, &self->rejected, &self->engine,
          &self->held, &self->usage, &self->error}) {
        set(*member, nullptr);
    }
    return 0;
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

// Ends the request, after the whole answer or after an error.
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
    const nb::object failure = nb::steal(to_the_end(
        [=] { return PyObject_CallMethodObjArgs(self->run, name, usage, error, nullptr); }));
    // Releases all objects, like a finished coroutine, which has no frame. This happens before the caller sees the
    // end, because an error may keep many of the engine's objects alive.
    clear(reinterpret_cast<PyObject *>(self));
    forget_halves(self->stream);
    if (failure.is_none()) {
        dynamo_stream_finish(self->stream, nullptr, has_counts ? &counts : nullptr);
    } else if (!failure.is_valid() || !fail_stream(self->stream, failure.ptr())) {
        PyErr_WriteUnraisable(reinterpret_cast<PyObject *>(self));
        dynamo_stream_fail(self->stream, DYNAMO_ERROR_INTERNAL,
                           "the end of the request failed; the program's log says how", nullptr);
    }
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
            if (await_space(self)) {
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
    PyObject *const close = PyObject_GetAttrString(self->answer, "aclose");
    if (close == nullptr) {
        PyErr_Clear();
        finish(self);
        return;
    }
    const bool waits = await(self, PyObject_CallNoArgs(close));
    Py_DECREF(close);
    if (!waits) {
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
            await_space(self);
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
            // (answer, see, usage)
            if (!PyTuple_CheckExact(result) || PyTuple_GET_SIZE(result) != 3) {
                PyErr_SetString(PyExc_TypeError, "opening an answer gives a tuple of three");
                return;
            }
            PyObject *const answer = PyTuple_GET_ITEM(result, 0);
            PyObject *const see = PyTuple_GET_ITEM(result, 1);
            PyObject *const usage = PyTuple_GET_ITEM(result, 2);
            if (see != Py_None) {
                self->see = Py_NewRef(see);
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
                await_space(self);
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

// Runs Python code; may be blocked here until the process ends (see gil.hpp).
PySendResult send_to(PyObject *iterator, PyObject *given, PyObject **value) {
    return to_the_end([=] { return PyIter_Send(iterator, given, value); });
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

// Advances until the coroutine has to wait, and then returns PYGEN_NEXT with what it waits for. `outcome` and `value`
// are the latest result of the awaited iterator.
PySendResult go_on(Drain *self, PySendResult outcome, PyObject *value, PyObject **result) {
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
                        if (!await_space(self)) {
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

// Marks the coroutine as running during a step, which must not start another one.
class Running {
  public:
    explicit Running(Drain *drain) : drain_(drain) { drain_->is_running = true; }
    Running(const Running &) = delete;
    Running &operator=(const Running &) = delete;
    ~Running() { drain_->is_running = false; }

  private:
    Drain *drain_;
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
        return go_on(self, PYGEN_ERROR, nullptr, result);
    }
    const PySendResult outcome = send_to(self->awaited, given, &value);
    return go_on(self, outcome, value, result);
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
        return go_on(self, PYGEN_ERROR, nullptr, result);
    }
    PyObject *const function = raise_there.ptr();
    PyObject *value = to_the_end([=] { return PyObject_CallObject(function, arguments); });
    if (value != nullptr) {
        return go_on(self, PYGEN_NEXT, value, result);
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration) != 0) {
        const nb::object stop = nb::steal(take_exception());
        value = PyObject_GetAttrString(stop.ptr(), "value");
        return go_on(self, value == nullptr ? PYGEN_ERROR : PYGEN_RETURN, value, result);
    }
    return go_on(self, PYGEN_ERROR, nullptr, result);
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

int traverse(PyObject *object, visitproc visit, void *arg) {
    auto *const self = reinterpret_cast<Drain *>(object);
    Py_VISIT(Py_TYPE(object));
    for (PyObject *member : {self->run, self->awaited, self->answer, self->see, self->rejected,
                             self->engine, self->held, self->usage, self->error}) {
        Py_VISIT(member);
    }
    return 0;
}

// The request must end even if its task is garbage collected.
void finalize(PyObject *object) {
    PyObject *type = nullptr;
    PyObject *value = nullptr;
    PyObject *trace = nullptr;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *const closed = close_method(object, nullptr);
    if (closed == nullptr) {
        PyErr_WriteUnraisable(object);
    }
    Py_XDECREF(closed);
    PyErr_Restore(type, value, trace);
}

void dealloc(PyObject *object) {
    if (PyObject_CallFinalizerFromDealloc(object) < 0) {
        return;  // the finalizer resurrected it
    }
    PyTypeObject *const type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    clear(object);
    auto *const self = reinterpret_cast<Drain *>(object);
    delete self->gathered;
    --drains;
    type->tp_free(object);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"send", send_method, METH_O, "Go on."},
    {"throw", throw_method, METH_VARARGS, "Raise in what is waited for."},
    {"close", close_method, METH_NOARGS, "End without a loop."},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
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

PyTypeObject *drain_type() {
    static PyObject *const type = PyType_FromSpec(&spec);
    return reinterpret_cast<PyTypeObject *>(type);
}

nb::object drain(std::uintptr_t stream, nb::handle open, nb::handle run, bool may_gather) {
    PyTypeObject *const type = drain_type();
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
        "A coroutine that brings an answer into a stream. `open` gives (answer, see, usage): the "
        "asynchronous iterator of the chunks, or None if there is nothing to read; what is called "
        "with each chunk that was pushed, or None; the counts so far, or None. "
        "`run.wait_for_space()` is awaited when the stream is full. When all is over, the answer "
        "is "
        "closed, and `run.end(usage, error)` is called, which does not raise: the stream is "
        "finished if it gives None, and fails with status, message and details (JSON) otherwise. "
        "may_gather: chunks "
        "that come without a pause may be pushed together.");
}

}  // namespace dynamo::python
