// SPDX-License-Identifier: Apache-2.0
// Binds the sinks into which step-level engines push the output of a step.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/api.hpp"
#include "python/bindings.hpp"
#include "python/chunk.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace dynamo::python {
namespace {

// The engine's side of one request. Requires the GIL.
struct Sink {
    std::uintptr_t stream;    // 0 once the answer has ended
    nb::object on_pushed;     // called with each pushed chunk; may be None
    bool is_refused = false;  // its method on_refused() was called
};

dynamo_stream_t *stream_of(const Sink &sink) {
    return reinterpret_cast<dynamo_stream_t *>(sink.stream);
}

[[noreturn]] void reject(PyObject *kind, const std::string &message) {
    PyErr_SetString(kind, message.c_str());
    throw nb::python_error();
}

// Takes the stream from the sink, which has ended from here on.
dynamo_stream_t *take_stream(Sink &sink) {
    dynamo_stream_t *const stream = stream_of(sink);
    forget_halves(stream);
    sink.stream = 0;
    sink.on_pushed = nb::none();
    return stream;
}

// Tells a sink, once, that its stream needs no more. Runs Python code.
void refuse(nb::handle sink) {
    Sink &its = *nb::inst_ptr<Sink>(sink);
    if (its.stream != 0 && !std::exchange(its.is_refused, true)) {
        sink.attr("on_refused")();
    }
}

bool push_one(Sink &sink, nb::dict dict) {
    Chunk chunk;
    if (!chunk.read(dict.ptr())) {
        nb::raise_python_error();
    }
    if (chunk.usage != nullptr) {
        reject(PyExc_ValueError, "\"usage\" belongs to finish(), and not to a chunk of a sink");
    }
    if (sink.stream == 0) {
        return true;
    }
    const std::int32_t status = push(stream_of(sink), chunk);
    if (PyErr_Occurred() != nullptr) {
        nb::raise_python_error();
    }
    if (status == DYNAMO_OK && !sink.on_pushed.is_none()) {
        sink.on_pushed(dict);
    }
    if (status == DYNAMO_ERROR_CANCELLED) {
        refuse(nb::find(sink));
    }
    return status != DYNAMO_PENDING;
}

void finish(Sink &sink, const std::optional<std::string> &reason, nb::handle usage) {
    if (sink.stream == 0) {
        return;
    }
    dynamo_usage_t counts{};
    if (!usage.is_none() && !read_usage(usage.ptr(), counts)) {
        nb::raise_python_error();
    }
    dynamo_stream_finish(take_stream(sink), reason ? reason->c_str() : nullptr,
                         usage.is_none() ? nullptr : &counts);
}

void fail(Sink &sink, std::int32_t status, const std::string &message, const std::string &detail) {
    if (sink.stream != 0) {
        dynamo_stream_fail(take_stream(sink), status, message.c_str(),
                           detail.empty() ? nullptr : detail.c_str());
    }
}

// Gives access to the items of a sequence: a list or tuple without a copy, anything else converted to a list.
class Items {
  public:
    // None means no items. Throws the exception that Python raises.
    Items(nb::handle sequence, const char *name) {
        if (sequence.is_none()) {
            return;
        }
        const std::string problem = std::string(name) + " of push_many() must be a sequence";
        items_ = nb::steal(PySequence_Fast(sequence.ptr(), problem.c_str()));
        if (!items_.is_valid()) {
            nb::raise_python_error();
        }
    }

    bool are_there() const { return items_.is_valid(); }
    std::size_t count() const {
        return static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr()));
    }
    PyObject *operator[](std::size_t i) const {
        return PySequence_Fast_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
    }

  private:
    nb::object items_;
};

// The chunks that one step pushes. Reused from call to call, because consecutive steps have similar sizes. Requires the
// GIL, and no Python code may run while it is in use.
struct Step {
    std::vector<dynamo_push_t> pushes;
    std::vector<dynamo_chunk_t> chunks;
    std::vector<std::uint32_t> ids;
    // Converted texts that had surrogates. `number` is the index of the sink.
    struct Mended {
        std::size_t number;
        std::uint32_t high;
        std::string text;
    };
    std::deque<Mended> mended;

    void prepare(std::size_t count) {
        pushes.resize(count);
        chunks.assign(count, dynamo_chunk_t{});
        ids.resize(count);
        mended.clear();
    }

    // Returns the half pending in the stream of sink `number`, after the earlier pushes of this step.
    std::uint32_t half_before(std::size_t number, dynamo_stream_t *stream) const {
        for (std::size_t i = number; i-- > 0;) {
            if (pushes[i].stream == stream && chunks[i].text_length > 0) {
                const auto its = std::find_if(mended.begin(), mended.end(),
                                              [&](const Mended &one) { return one.number == i; });
                return its == mended.end() ? 0 : its->high;
            }
        }
        return waiting_half(stream, 0);
    }
};

[[noreturn]] void reject_counts(std::size_t sinks, const char *name, std::size_t count) {
    reject(PyExc_ValueError, "push_many() got " + std::to_string(sinks) + " sinks and " +
                                 std::to_string(count) + " " + name);
}

nb::list push_many(nb::handle its_sinks, nb::handle its_ids, nb::handle its_texts) {
    const Items sinks(its_sinks, "sinks");
    const Items ids(its_ids, "token_ids");
    const Items texts(its_texts, "texts");
    if (!sinks.are_there()) {
        reject(PyExc_TypeError, "sinks of push_many() must be a sequence");
    }
    const std::size_t count = sinks.count();
    if (ids.are_there() && ids.count() != count) {
        reject_counts(count, "token_ids", ids.count());
    }
    if (texts.are_there() && texts.count() != count) {
        reject_counts(count, "texts", texts.count());
    }
    if (!ids.are_there() && !texts.are_there()) {
        reject(PyExc_ValueError, "push_many() needs token_ids or texts");
    }

    static Step *const step = new Step;  // never freed, like the module itself
    step->prepare(count);
    bool is_seen = false;
    for (std::size_t i = 0; i < count; ++i) {
        dynamo_chunk_t &chunk = step->chunks[i];
        chunk.struct_size = sizeof chunk;
        if (!nb::isinstance<Sink>(sinks[i])) {
            reject(PyExc_TypeError, "sinks of push_many() must be Sink, and number " +
                                        std::to_string(i) + " is " + Py_TYPE(sinks[i])->tp_name);
        }
        const Sink &sink = *nb::inst_ptr<Sink>(sinks[i]);
        is_seen = is_seen || !sink.on_pushed.is_none();
        if (ids.are_there()) {
            if (!read_uint32(ids[i], step->ids[i])) {
                nb::raise_python_error();
            }
            chunk.token_ids = &step->ids[i];
            chunk.token_count = 1;
        }
        std::optional<SplitText> split;
        if (texts.are_there() && texts[i] != Py_None && !read_text(texts[i], chunk, split)) {
            nb::raise_python_error();
        }
        if (split) {
            const std::uint32_t before = step->half_before(i, stream_of(sink));
            step->mended.push_back({i, split->high, split->after(before)});
            const Step::Mended &its = step->mended.back();
            chunk.text = its.text.data();
            chunk.text_length = its.text.size();
        }
        step->pushes[i] = {stream_of(sink), &chunk, DYNAMO_OK};
    }

    dynamo_stream_push_many(step->pushes.data(), count, sizeof(dynamo_push_t));

    if (has_waiting_halves() || !step->mended.empty()) {
        auto mended = step->mended.begin();
        for (std::size_t i = 0; i < count; ++i) {
            const bool is_mended = mended != step->mended.end() && mended->number == i;
            const std::uint32_t half = is_mended ? (mended++)->high : 0;
            if (step->pushes[i].status == DYNAMO_OK && step->chunks[i].text_length > 0) {
                set_waiting_half(step->pushes[i].stream, 0, half);
            }
        }
    }

    nb::list full;
    std::vector<std::int32_t> statuses;
    std::vector<nb::object> refused;
    for (std::size_t i = 0; i < count; ++i) {
        if (step->pushes[i].stream == nullptr) {  // another thread ended it meanwhile
            step->pushes[i].status = DYNAMO_ERROR_CANCELLED;
        }
        const std::int32_t status = step->pushes[i].status;
        if (status == DYNAMO_PENDING) {
            full.append(i);
        } else if (status < 0 && status != DYNAMO_ERROR_CANCELLED) {
            reject(status == DYNAMO_ERROR_OUT_OF_MEMORY ? PyExc_MemoryError : PyExc_ValueError,
                   "push_many() of sink number " + std::to_string(i) + ": " +
                       dynamo_status_name(status));
        }
        if (status == DYNAMO_ERROR_CANCELLED && !nb::inst_ptr<Sink>(sinks[i])->is_refused) {
            refused.push_back(nb::borrow(sinks[i]));
        }
        if (is_seen) {
            statuses.push_back(status);
        }
    }
    for (const nb::object &sink : refused) {  // Python code runs from here on
        refuse(sink);
    }
    for (std::size_t i = 0; i < statuses.size(); ++i) {
        const nb::object on_pushed = nb::inst_ptr<Sink>(sinks[i])->on_pushed;
        if (statuses[i] == DYNAMO_OK && !on_pushed.is_none()) {
            nb::dict chunk;
            if (ids.are_there()) {
                chunk["token_ids"] = nb::make_tuple(nb::borrow(ids[i]));
            }
            if (texts.are_there() && texts[i] != Py_None) {
                chunk["text"] = nb::borrow(texts[i]);
            }
            on_pushed(chunk);
        }
    }
    return full;
}

}  // namespace

void bind_sink(nb::module_ &m) {
    nb::class_<Sink>(m, "Sink", "The engine's side of one request; see runtime/sink.py.")
        .def(
            "__init__",
            [](Sink *place, std::uintptr_t stream, nb::object on_pushed) {
                new (place) Sink{.stream = stream, .on_pushed = std::move(on_pushed)};
            },
            "stream"_a, "on_pushed"_a.none(),
            nb::sig("def __init__(self, stream: int, on_pushed: "
                    "collections.abc.Callable[[typing.Any], None] | None) -> None"))
        .def("push", &push_one, "chunk"_a,
             nb::sig("def push(self, chunk: dict[str, typing.Any]) -> bool"),
             "Pushes a chunk. Returns False if the stream is full and nothing was pushed. Once the "
             "answer has ended or was cancelled, chunks are accepted and dropped.")
        .def("finish_stream", &finish, "reason"_a.none(), "usage"_a.none(),
             nb::sig("def finish_stream(self, reason: str | None, usage: typing.Any) -> None"),
             "Ends the answer, and releases the stream.")
        .def("fail_stream", &fail, "status"_a, "message"_a, "detail"_a,
             "Ends the answer with an error, and releases the stream.")
        .def(
            "on_refused", [](const Sink &) {},
            "Called once when the stream needs no more: the answer is complete, or was cancelled. "
            "Any "
            "thread.")
        .def_prop_ro(
            "has_ended", [](const Sink &sink) { return sink.stream == 0; },
            "Whether finish() or fail() was called.")
        .def_prop_ro(
            "is_cancelled",
            [](const Sink &sink) {
                return sink.stream == 0 || dynamo_stream_is_cancelled(stream_of(sink)) != 0;
            },
            "Whether the answer has ended, or the caller no longer wants it.");
    m.def(
        "push_many", &push_many, "sinks"_a.none(), "token_ids"_a.none(),
        "texts"_a.none() = nb::none(),
        nb::sig("def push_many(sinks: collections.abc.Sequence[Sink], "
                "token_ids: collections.abc.Sequence[int] | None, "
                "texts: collections.abc.Sequence[str | bytes | None] | None = None) -> list[int]"),
        "Pushes one token to each of many sinks; see runtime/sink.py.");
}

}  // namespace dynamo::python
