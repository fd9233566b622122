// SPDX-License-Identifier: Apache-2.0
// How this module reaches the library: through a table of its functions. The library that opened
// the module hands its own table over, so that a program with the library linked in has one core
// and not two. In api.cpp each function of the public headers is defined once more, as a call
// through the table; code here just calls them.
#pragma once

#include "api_table.h"

namespace dynamo::python {

// Takes the table of the library that opened this module. Returns false if another copy of the
// library was adopted before.
bool adopt(const dynamo_api &api) noexcept;

// When Python imported this module by itself: opens the library that is installed with it. Returns
// what went wrong, or nullptr.
const char *load_installed_library();

// "1.0.0": what this module was built with.
const char *built_version() noexcept;

}  // namespace dynamo::python
