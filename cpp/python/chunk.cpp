// SPDX-License-Identifier: Apache-2.0
#include "python/chunk.hpp"

#include <nanobind/stl/string.h>

#include <string>
#include <vector>

#include "python/gil.hpp"

namespace nb = nanobind;

namespace dynamo::python {
namespace {

// Interned once; a dictionary look-up then compares pointers. Never freed, like the module itself.
struct Keys {
    PyObject *text = PyUnicode_InternFromString("text");
    PyObject *token_ids = PyUnicode_InternFromString("token_ids");
    PyObject *index = PyUnicode_InternFromString("index");
    PyObject *finish_reason = PyUnicode_InternFromString("finish_reason");
    PyObject *delta = PyUnicode_InternFromString("delta");
    PyObject *logprobs = PyUnicode_InternFromString("logprobs");
    PyObject *data = PyUnicode_InternFromString("data");
};

const Keys &keys() {
    static const Keys *const instance = new Keys;
    return *instance;
}

// Borrowed; nullptr if missing or None.
PyObject *find(nb::handle dict, PyObject *key) {
    PyObject *const value = PyDict_GetItemWithError(dict.ptr(), key);
    if (value == nullptr && PyErr_Occurred() != nullptr) {
        nb::raise_python_error();
    }
    return value == Py_None ? nullptr : value;
}

std::string to_json(PyObject *value) {
    const nb::tuple arguments = nb::make_tuple(nb::handle(value));
    const nb::object text = nb::steal(call_to_the_end("json", "dumps", arguments.ptr()));
    if (!text.is_valid()) {
        nb::raise_python_error();
    }
    return nb::cast<std::string>(text);
}

void read_text(PyObject *value, dynamo_chunk_t &chunk) {
    Py_ssize_t size = 0;
    if (PyBytes_Check(value)) {
        chunk.text = PyBytes_AS_STRING(value);
        size = PyBytes_GET_SIZE(value);
    } else if (PyUnicode_Check(value)) {
        chunk.text = PyUnicode_AsUTF8AndSize(value, &size);
        if (chunk.text == nullptr) {
            nb::raise_python_error();
        }
    } else {
        throw nb::type_error("\"text\" of a chunk must be str or bytes");
    }
    chunk.text_length = static_cast<std::size_t>(size);
}

dynamo_data_t read_data(PyObject *value) {
    if (PyBytes_Check(value)) {
        return {PyBytes_AS_STRING(value), static_cast<std::size_t>(PyBytes_GET_SIZE(value)),
                DYNAMO_DATA_BYTES};
    }
    if (!PyUnicode_Check(value)) {
        throw nb::type_error("\"data\" of a chunk must be bytes, or str of JSON");
    }
    Py_ssize_t size = 0;
    const char *const text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr) {
        nb::raise_python_error();
    }
    return {text, static_cast<std::size_t>(size), DYNAMO_DATA_JSON};
}

std::uint32_t to_uint32(PyObject *value) {
    const unsigned long number = PyLong_AsUnsignedLong(value);
    if (PyErr_Occurred() != nullptr) {
        nb::raise_python_error();
    }
    if (number > UINT32_MAX) {
        throw nb::value_error("token ids and the index of a chunk must be less than 4294967296");
    }
    return static_cast<std::uint32_t>(number);
}

void read_token_ids(PyObject *value, std::vector<std::uint32_t> &ids) {
    nb::object sequence =
        nb::steal(PySequence_Fast(value, "\"token_ids\" of a chunk must be a sequence"));
    if (!sequence.is_valid()) {
        nb::raise_python_error();
    }
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence.ptr());
    ids.reserve(static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        ids.push_back(to_uint32(PySequence_Fast_GET_ITEM(sequence.ptr(), i)));
    }
}

}  // namespace

std::int32_t push(dynamo_stream_t *stream, nb::handle dict) {
    if (!PyDict_Check(dict.ptr())) {
        PyErr_Format(PyExc_TypeError, "an engine's generate() must yield dict, not %s",
                     Py_TYPE(dict.ptr())->tp_name);
        nb::raise_python_error();
    }
    dynamo_chunk_t chunk{};
    chunk.struct_size = sizeof chunk;
    std::vector<std::uint32_t> ids;
    std::string delta;
    std::string logprobs;
    dynamo_data_t data{};
    if (PyObject *const text = find(dict, keys().text)) {
        read_text(text, chunk);
    }
    if (PyObject *const token_ids = find(dict, keys().token_ids)) {
        read_token_ids(token_ids, ids);
        chunk.token_ids = ids.data();
        chunk.token_count = ids.size();
    }
    if (PyObject *const index = find(dict, keys().index)) {
        chunk.index = to_uint32(index);
    }
    if (PyObject *const reason = find(dict, keys().finish_reason)) {
        if (!PyUnicode_Check(reason)) {
            throw nb::type_error("\"finish_reason\" of a chunk must be str or None");
        }
        chunk.finish_reason = PyUnicode_AsUTF8(reason);
        if (chunk.finish_reason == nullptr) {
            nb::raise_python_error();
        }
    }
    if (PyObject *const more = find(dict, keys().delta)) {
        delta = to_json(more);
        chunk.delta_json = delta.c_str();
    }
    if (PyObject *const more = find(dict, keys().logprobs)) {
        logprobs = to_json(more);
        chunk.logprobs_json = logprobs.c_str();
    }
    if (PyObject *const item = find(dict, keys().data)) {
        data = read_data(item);
        chunk.data = &data;
    }
    const std::int32_t status = dynamo_stream_push(stream, &chunk);
    if (status < 0 && status != DYNAMO_ERROR_CANCELLED) {
        throw nb::value_error(dynamo_last_error());
    }
    return status;
}

dynamo_usage_t usage_of(nb::handle usage) {
    dynamo_usage_t counts{};
    counts.struct_size = sizeof counts;
    if (!usage.is_none()) {
        const auto count = [&](const char *key) {
            return nb::cast<std::uint64_t>(usage.attr("get")(key, 0));
        };
        counts.prompt_tokens = count("prompt_tokens");
        counts.completion_tokens = count("completion_tokens");
        counts.cached_tokens = count("cached_tokens");
    }
    return counts;
}

}  // namespace dynamo::python
