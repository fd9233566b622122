// SPDX-License-Identifier: Apache-2.0
#include "python/chunk.hpp"

#include <nanobind/stl/string.h>

#include <iterator>
#include <string_view>

#include "python/gil.hpp"

namespace nb = nanobind;

namespace dynamo::python {
namespace {

// Interned once, so that most keys can be compared by identity. Never freed, like the module itself.
struct Keys {
    PyObject *text = PyUnicode_InternFromString("text");
    PyObject *token_ids = PyUnicode_InternFromString("token_ids");
    PyObject *index = PyUnicode_InternFromString("index");
    PyObject *finish_reason = PyUnicode_InternFromString("finish_reason");
    PyObject *delta = PyUnicode_InternFromString("delta");
    PyObject *logprobs = PyUnicode_InternFromString("logprobs");
    PyObject *data = PyUnicode_InternFromString("data");
    PyObject *usage = PyUnicode_InternFromString("usage");
    // Used by this library only: the number of tokens in a chunk without token IDs.
    PyObject *token_count = PyUnicode_InternFromString("token_count");
    // Maps a key to the object above, for keys that are equal but not identical to it.
    PyObject *all = PyDict_New();

    Keys() {
        for (PyObject *key :
             {text, token_ids, index, finish_reason, delta, logprobs, data, usage, token_count}) {
            PyDict_SetItem(all, key, key);
        }
    }
};

const Keys &keys() {
    static const Keys *instance = nullptr;  // protected by the GIL
    if (instance == nullptr) {
        instance = new Keys;
    }
    return *instance;
}

Chunk::Rare &rare_of(Chunk &chunk) {
    if (chunk.rare == nullptr) {
        chunk.rare = std::make_unique<Chunk::Rare>();
    }
    return *chunk.rare;
}

// Each of these functions returns false and sets a Python exception if it cannot read the value.

bool reject(PyObject *kind, const char *message) {
    PyErr_SetString(kind, message);
    return false;
}

bool to_json(PyObject *value, std::string &out) {
    const nb::object arguments = nb::steal(PyTuple_Pack(1, value));
    if (!arguments.is_valid()) {
        return false;
    }
    const nb::object text = nb::steal(call_function("json", "dumps", arguments.ptr()));
    Py_ssize_t size = 0;
    const char *const utf8 = text.is_valid() ? PyUnicode_AsUTF8AndSize(text.ptr(), &size) : nullptr;
    if (utf8 == nullptr) {
        return false;
    }
    out.assign(utf8, static_cast<std::size_t>(size));
    replace_single_halves(out);
    return true;
}

// Checks whether the current Python exception reports that a str has surrogates. If so, clears it.
bool clear_surrogate_error(PyObject *value) {
    if (!PyUnicode_Check(value) || PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) == 0) {
        return false;
    }
    PyErr_Clear();
    return true;
}

bool read_data(PyObject *value, std::string &json, dynamo_data_t &data) {
    if (PyBytes_Check(value)) {
        data = {PyBytes_AS_STRING(value), static_cast<std::size_t>(PyBytes_GET_SIZE(value)),
                DYNAMO_DATA_BYTES};
        return true;
    }
    if (!PyUnicode_Check(value)) {
        return reject(PyExc_TypeError, "\"data\" of a chunk must be bytes, or str of JSON");
    }
    Py_ssize_t size = 0;
    const char *const text = PyUnicode_AsUTF8AndSize(value, &size);
    if (text == nullptr && !clear_surrogate_error(value)) {
        return false;
    }
    if (text != nullptr) {
        const std::string_view given(text, static_cast<std::size_t>(size));
        if (given.find("\\ud") == std::string_view::npos &&
            given.find("\\uD") == std::string_view::npos) {
            data = {text, given.size(), DYNAMO_DATA_JSON};
            return true;
        }
        json = given;
    } else {
        json = SplitText::whole(value);
    }
    replace_single_halves(json);
    data = {json.data(), json.size(), DYNAMO_DATA_JSON};
    return true;
}

bool read_token_ids(PyObject *value, Chunk &chunk) {
    const nb::object sequence =
        nb::steal(PySequence_Fast(value, "\"token_ids\" of a chunk must be a sequence"));
    if (!sequence.is_valid()) {
        return false;
    }
    PyObject **const items = PySequence_Fast_ITEMS(sequence.ptr());
    const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(sequence.ptr()));
    std::uint32_t *ids = chunk.few_ids;
    if (count > std::size(chunk.few_ids)) {
        rare_of(chunk).ids.resize(count);
        ids = rare_of(chunk).ids.data();
    }
    bool is_right = true;
    for (std::size_t i = 0; i < count && is_right; ++i) {
        is_right = read_uint32(items[i], ids[i]);
    }
    chunk.what.token_ids = ids;
    chunk.what.token_count = count;
    return is_right;
}

bool read_reason(PyObject *value, Chunk &chunk) {
    if (!PyUnicode_Check(value)) {
        return reject(PyExc_TypeError, "\"finish_reason\" of a chunk must be str or None");
    }
    chunk.what.finish_reason = PyUnicode_AsUTF8(value);
    if (chunk.what.finish_reason == nullptr && clear_surrogate_error(value)) {
        rare_of(chunk).finish_reason = SplitText::whole(value);
        chunk.what.finish_reason = chunk.rare->finish_reason.c_str();
    }
    return chunk.what.finish_reason != nullptr;
}

// Reads the text of a chunk, which may have surrogates.
bool read_its_text(PyObject *value, Chunk &chunk) {
    std::optional<SplitText> split;
    if (!read_text(value, chunk.what, split)) {
        return false;
    }
    if (split) {
        rare_of(chunk).text = std::move(split);
        chunk.has_surrogates = true;
    }
    return true;
}

}  // namespace

bool read_text(PyObject *value, dynamo_chunk_t &chunk, std::optional<SplitText> &split) {
    Py_ssize_t size = 0;
    if (PyUnicode_Check(value)) {
        if (PyUnicode_IS_COMPACT_ASCII(value)) {  // its buffer is valid UTF-8
            chunk.text = static_cast<const char *>(PyUnicode_DATA(value));
            size = PyUnicode_GET_LENGTH(value);
        } else {
            chunk.text = PyUnicode_AsUTF8AndSize(value, &size);
            if (chunk.text == nullptr) {
                if (!clear_surrogate_error(value)) {
                    return false;
                }
                split = SplitText::of(value);
                return true;
            }
        }
    } else if (PyBytes_Check(value)) {
        chunk.text = PyBytes_AS_STRING(value);
        size = PyBytes_GET_SIZE(value);
    } else {
        return reject(PyExc_TypeError, "\"text\" of a chunk must be str or bytes");
    }
    chunk.text_length = static_cast<std::size_t>(size);
    return true;
}

bool read_uint32(PyObject *value, std::uint32_t &out) {
    const unsigned long number = PyLong_AsUnsignedLong(value);
    if (number == static_cast<unsigned long>(-1) && PyErr_Occurred() != nullptr) {
        return false;
    }
    if (number > UINT32_MAX) {
        return reject(PyExc_ValueError,
                      "token ids and the index of a chunk must be less than 4294967296");
    }
    out = static_cast<std::uint32_t>(number);
    return true;
}

bool Chunk::read(PyObject *dict) {
    if (!PyDict_Check(dict)) {
        PyErr_Format(PyExc_TypeError, "an engine's generate() must yield dict, not %s",
                     Py_TYPE(dict)->tp_name);
        return false;
    }
    const Keys &known = keys();
    // Converting these two runs Python code, which could change the dictionary, so they are converted last.
    PyObject *its_delta = nullptr;
    PyObject *its_logprobs = nullptr;
    PyObject *key = nullptr;
    PyObject *value = nullptr;
    Py_ssize_t place = 0;
    for (Py_ssize_t left = PyDict_GET_SIZE(dict);
         left > 0 && PyDict_Next(dict, &place, &key, &value) != 0; --left) {
        if (value == Py_None) {
            continue;
        }
        bool is_right = true;
        for (bool again = true; again;) {
            again = false;
            if (key == known.text) {
                is_right = read_its_text(value, *this);
            } else if (key == known.token_ids) {
                is_right = read_token_ids(value, *this);
            } else if (key == known.index) {
                is_right = read_uint32(value, what.index);
            } else if (key == known.finish_reason) {
                is_right = read_reason(value, *this);
            } else if (key == known.delta) {
                its_delta = value;
            } else if (key == known.logprobs) {
                its_logprobs = value;
            } else if (key == known.data) {
                Rare &its = rare_of(*this);
                is_right = read_data(value, its.data_json, its.data);
                what.data = &its.data;
            } else if (key == known.usage) {
                usage = value;
            } else if (key == known.token_count) {
                std::uint32_t count = 0;
                is_right = read_uint32(value, count);
                if (what.token_ids == nullptr) {
                    what.token_count = count;
                }
            } else if (PyObject *const same = PyDict_GetItemWithError(known.all, key)) {
                key = same;
                again = true;
            } else {
                is_right = PyErr_Occurred() == nullptr;
            }
        }
        if (!is_right) {
            return false;
        }
    }
    if (its_delta != nullptr || its_logprobs != nullptr) {
        const nb::object kept_delta = nb::borrow(its_delta);
        const nb::object kept_logprobs = nb::borrow(its_logprobs);
        Rare &strings = rare_of(*this);
        const bool is_right = (its_delta == nullptr || to_json(its_delta, strings.delta)) &&
                              (its_logprobs == nullptr || to_json(its_logprobs, strings.logprobs));
        what.delta_json = its_delta == nullptr ? nullptr : strings.delta.c_str();
        if (its_logprobs != nullptr && PyList_Check(its_logprobs)) {  // of a token-level engine
            strings.logprobs = "{\"tokens\": " + strings.logprobs + "}";
        }
        what.logprobs_json = its_logprobs == nullptr ? nullptr : strings.logprobs.c_str();
        return is_right;
    }
    return true;
}

std::int32_t push(dynamo_stream_t *stream, const Chunk &chunk) {
    if (!chunk.has_surrogates) {
        return push(stream, chunk.what);
    }
    const SplitText &split = *chunk.rare->text;
    const std::string text = split.after(waiting_half(stream, chunk.what.index));
    dynamo_chunk_t what = chunk.what;
    what.text = text.data();
    what.text_length = text.size();
    const std::int32_t status = push(stream, what);
    if (status == DYNAMO_OK && split.high != 0) {
        set_waiting_half(stream, what.index, split.high);
    }
    return status;
}

std::int32_t push(dynamo_stream_t *stream, const dynamo_chunk_t &chunk) {
    const std::int32_t status = dynamo_stream_push(stream, &chunk);
    if (status == DYNAMO_OK && has_waiting_halves() && chunk.text_length > 0) {
        set_waiting_half(stream, chunk.index, 0);  // the pending half remains unpaired
    }
    if (status == DYNAMO_ERROR_OUT_OF_MEMORY) {
        PyErr_NoMemory();
    } else if (status < 0 && status != DYNAMO_ERROR_CANCELLED) {
        PyErr_SetString(PyExc_ValueError, dynamo_last_error());
    }
    return status;
}

bool read_usage(PyObject *usage, dynamo_usage_t &counts) {
    counts.struct_size = sizeof counts;
    if (!PyDict_Check(usage)) {
        return reject(PyExc_TypeError, "\"usage\" of a chunk must be dict");
    }
    const auto read = [&](const char *key, std::uint64_t &count) {
        PyObject *const value = PyDict_GetItemString(usage, key);
        if (value == nullptr) {
            return true;
        }
        count = PyLong_AsUnsignedLongLong(value);
        return count != static_cast<std::uint64_t>(-1) || PyErr_Occurred() == nullptr;
    };
    return read("prompt_tokens", counts.prompt_tokens) &&
           read("completion_tokens", counts.completion_tokens) &&
           read("cached_tokens", counts.cached_tokens);
}

}  // namespace dynamo::python
