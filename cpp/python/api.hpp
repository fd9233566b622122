// SPDX-License-Identifier: Apache-2.0
// Calls the library through a table of its functions. The library that opened this module passes its own table, so
// that a program that links the static library does not get a second copy of it. api.cpp defines each function of
// the public headers as a call through the table, so code in this module calls these functions as usual.
#pragma once

#include "api_table.h"

namespace dynamo::python {

// Adopts the table of the library that opened this module. Returns false if another copy of the
// library was adopted before.
bool adopt(const dynamo_api &api) noexcept;

// Opens the library that is installed with this module, for when a Python program imported the module. Returns
// the error message, or nullptr on success.
const char *load_installed_library();

// Returns the version of the headers that this module was built with: "1.0.0".
const char *built_version() noexcept;

}  // namespace dynamo::python
