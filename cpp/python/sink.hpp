// SPDX-License-Identifier: Apache-2.0
// Where engines that own their step loop put what a step made.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

// Adds Sink and push_step() to the module.
void bind_sink(nanobind::module_ &m);

}  // namespace dynamo::python
