// SPDX-License-Identifier: Apache-2.0
// Converts arguments that Python programs pass.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstdint>
#include <dynamo_llm.hpp>

namespace dynamo::python {

// Converts a timeout, where a negative number means no timeout.
inline std::chrono::milliseconds time_of(std::int64_t timeout_ms) {
    return timeout_ms < 0 ? dynamo_llm::forever : std::chrono::milliseconds(timeout_ms);
}

// Returns the token IDs in the bytes of an array.array("I"), which must outlive them.
inline dynamo_llm::TokenIds ids_of(const nanobind::bytes &array) {
    return {static_cast<const std::uint32_t *>(array.data()), array.size() / sizeof(std::uint32_t)};
}

}  // namespace dynamo::python
