// SPDX-License-Identifier: Apache-2.0
// Converts the dictionaries that Python engines yield to chunks, and pushes them into a stream.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "python/api.hpp"
#include "python/surrogates.hpp"

namespace dynamo::python {

// A chunk read from a dictionary. It refers to the dictionary's values: use it only while they live, with
// the GIL, and before other Python code runs.
//
// Keys, all optional: "text" (str or bytes of UTF-8), "token_ids" (sequence of int), "index" (int),
// "finish_reason" (str or None), "delta" and "logprobs" (dict), "data" (one payload: bytes, or str
// of JSON), "usage". Other keys are ignored.
struct Chunk {
    Chunk() { what.struct_size = sizeof what; }
    Chunk(const Chunk &) = delete;
    Chunk &operator=(const Chunk &) = delete;

    // Returns false and sets TypeError or ValueError if `dict` is not a valid chunk. Throws std::bad_alloc.
    bool read(PyObject *dict);

    dynamo_chunk_t what{};
    PyObject *usage = nullptr;    // borrowed
    bool has_surrogates = false;  // then the text is rare->text, not what.text

    // Storage for values that `what` refers to and that are not in the dictionary.
    struct Rare {
        std::vector<std::uint32_t> ids;
        std::optional<SplitText> text;
        std::string finish_reason;
        std::string delta;
        std::string logprobs;
        std::string data_json;
        dynamo_data_t data{};
    };
    std::uint32_t few_ids[8];
    std::unique_ptr<Rare> rare;  // allocated only if needed, because most chunks do not need it
};

// Sets the chunk's text to a str or bytes, without a copy. A str with surrogates is read into `split` instead.
// Returns false and sets TypeError for other types. Throws std::bad_alloc.
bool read_text(PyObject *value, dynamo_chunk_t &chunk, std::optional<SplitText> &split);

// Returns false and sets a Python exception if the value is not an unsigned 32-bit integer.
bool read_uint32(PyObject *value, std::uint32_t &out);

// Returns DYNAMO_OK, PENDING (the stream is full, nothing was pushed), or CANCELLED. With any other status a Python
// exception is set. Throws std::bad_alloc if the text has surrogates.
std::int32_t push(dynamo_stream_t *stream, const Chunk &chunk);
// Does the same for a chunk without surrogates. Does not throw.
std::int32_t push(dynamo_stream_t *stream, const dynamo_chunk_t &chunk);

// Reads {"prompt_tokens": n, "completion_tokens": n, "cached_tokens": n}; missing counts are 0. Returns false and
// sets TypeError or OverflowError if `usage` is invalid.
bool read_usage(PyObject *usage, dynamo_usage_t &counts);

}  // namespace dynamo::python
