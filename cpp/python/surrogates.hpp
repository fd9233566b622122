// SPDX-License-Identifier: Apache-2.0
// Handles surrogates in strings of Python engines. A str may contain half of a surrogate pair: JSON decoders create it
// from a "\ud83d" that a server separated from its other half. UTF-8 cannot represent it. Two halves are joined to
// one character, even across two chunks; an unpaired half becomes U+FFFD.
//
// All functions require the GIL.
#pragma once

#include <Python.h>

#include <cstdint>
#include <string>

#include "dynamo_llm/engine.h"

namespace dynamo::python {

// The text of a chunk that begins or ends with half of a surrogate pair.
struct SplitText {
    std::string middle;      // UTF-8 of everything between the halves
    std::uint32_t low = 0;   // the low half at the beginning, or 0
    std::uint32_t high = 0;  // the high half at the end, or 0

    // Splits a str.
    static SplitText of(PyObject *text);
    // Returns the UTF-8 of a complete str: halves at its ends become U+FFFD.
    static std::string whole(PyObject *text);

    // Returns the text to push after `before`, the pending high half (0: none). A high half at the end is pushed as
    // the first two bytes of its character: the stream holds them back, and replaces them with U+FFFD if the rest
    // does not arrive.
    std::string after(std::uint32_t before) const;
};

// High halves that wait for the next chunk of their stream and choice.
bool has_waiting_halves() noexcept;
std::uint32_t waiting_half(dynamo_stream_t *stream, std::uint32_t choice) noexcept;  // 0: none
void set_waiting_half(dynamo_stream_t *stream, std::uint32_t choice,
                      std::uint32_t half);  // 0: none
// Removes the pending halves of a stream. Call it when the stream ends.
void forget_halves(dynamo_stream_t *stream) noexcept;

// Replaces escapes of unpaired halves in JSON with the escape of U+FFFD.
void replace_single_halves(std::string &json) noexcept;

}  // namespace dynamo::python
