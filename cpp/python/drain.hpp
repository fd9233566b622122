// SPDX-License-Identifier: Apache-2.0
// The coroutine that the task of a request runs. It is written in C++, so no Python frame lies between the
// asyncio event loop and the engine's generator.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

// Adds drain() to the module.
void bind_drain(nanobind::module_ &m);

}  // namespace dynamo::python
