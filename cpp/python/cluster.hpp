// SPDX-License-Identifier: Apache-2.0
// KV publishers and routers for Python programs: the classes of dynamo_llm/cluster.hpp.
#pragma once

#include <nanobind/nanobind.h>

namespace dynamo::python {

void bind_cluster(nanobind::module_ &m);

}  // namespace dynamo::python
