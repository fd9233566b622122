// SPDX-License-Identifier: Apache-2.0
// The parts of the Python module `_core`. Each function adds the names that one file binds.
#pragma once

#include <nanobind/nanobind.h>

#include "python/gil.hpp"

namespace dynamo::python {

void bind_client(nanobind::module_ &m);        // runtimes, requests, responses, and tokenizers
void bind_cluster(nanobind::module_ &m);       // workers, KV publishers, and routers
void bind_creation(nanobind::module_ &m);      // the creation of a runtime
void bind_drain(nanobind::module_ &m);         // drain(), see drain.hpp
void bind_router_calls(nanobind::module_ &m);  // the calls of routers, see router_calls.hpp
void bind_text_stages(
    nanobind::module_ &m);             // the choices of token-level engines, see text_stages.hpp
void bind_sink(nanobind::module_ &m);  // Sink and push_many()

// Whether Python has imported the module in this process.
bool was_imported() noexcept;

// Runs a function that may wait without the GIL.
inline constexpr nanobind::call_guard<Released> without_gil{};

}  // namespace dynamo::python
