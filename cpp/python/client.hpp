// SPDX-License-Identifier: Apache-2.0
// Binds the classes of dynamo_llm.hpp for Python programs. Uses only that public header.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

void bind_client(nanobind::module_ &m);

}  // namespace dynamo::python
