// SPDX-License-Identifier: Apache-2.0
// Chunks of Python engines: dictionaries on their way into a stream.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "python/api.hpp"

namespace dynamo::python {

// What a dictionary says. It refers to the dictionary's values, so it is used while these live, with
// the GIL, and before other Python code runs.
//
// Keys, all optional: "text" (str or bytes of UTF-8), "token_ids" (sequence of int), "index" (int),
// "finish_reason" (str or None), "delta" and "logprobs" (dict), "data" (bytes, or str of JSON; an
// item), "usage". Others are ignored here.
struct Chunk {
    Chunk() { what.struct_size = sizeof what; }
    Chunk(const Chunk &) = delete;
    Chunk &operator=(const Chunk &) = delete;

    // False, with TypeError or ValueError, for what is no such thing. Throws std::bad_alloc.
    bool read(PyObject *dict);

    dynamo_chunk_t what{};
    PyObject *usage = nullptr;  // borrowed

    // What `what` refers to, where that is not in the dictionary.
    struct Rare {
        std::vector<std::uint32_t> ids;
        std::string delta;
        std::string logprobs;
        dynamo_data_t data{};
    };
    std::uint32_t few_ids[8];
    std::unique_ptr<Rare> rare;  // most chunks have none, and cost less so
};

// A str or bytes as the chunk's text, which refers to it. False, with TypeError, for what is neither.
bool read_text(PyObject *value, dynamo_chunk_t &chunk);

// False, with Python's error, for what is no number of 32 bits.
bool read_uint32(PyObject *value, std::uint32_t &out);

// DYNAMO_OK, PENDING (full, nothing was taken) or CANCELLED; another status comes with Python's error.
std::int32_t push(dynamo_stream_t *stream, const dynamo_chunk_t &chunk);

// {"prompt_tokens": n, "completion_tokens": n, "cached_tokens": n}; what is missing is 0. False, with
// TypeError or OverflowError, for what is no such thing.
bool read_usage(PyObject *usage, dynamo_usage_t &counts);

}  // namespace dynamo::python
