// SPDX-License-Identifier: Apache-2.0
// What Python programs call: the classes of dynamo_llm.hpp, and nothing below them.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

void bind_client(nanobind::module_ &m);

}  // namespace dynamo::python
