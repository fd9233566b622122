// SPDX-License-Identifier: Apache-2.0
// Binds the sinks into which step-level engines push the output of a step.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

// Adds Sink and push_many() to the module.
void bind_sink(nanobind::module_ &m);

}  // namespace dynamo::python
