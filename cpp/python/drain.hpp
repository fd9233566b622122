// SPDX-License-Identifier: Apache-2.0
// What the task of a request runs: a coroutine without a frame of Python between the loop and the
// engine's generator.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

// Adds drain() to the module.
void bind_drain(nanobind::module_ &m);

}  // namespace dynamo::python
