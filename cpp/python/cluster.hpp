// SPDX-License-Identifier: Apache-2.0
// Binds the classes of dynamo_llm/cluster.hpp for Python programs: workers, KV publishers, and routers.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

void bind_cluster(nanobind::module_ &m);

}  // namespace dynamo::python
