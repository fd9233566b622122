// SPDX-License-Identifier: Apache-2.0
// The choices of token-level engines: how Python creates them, and how they become stages of streams.
#pragma once

#include <cstdint>

#include "embed/bridge.h"

namespace dynamo::python::text_stages {

// Takes the library's functions for streams.
void set_functions(const dynamo_bridge_options &options) noexcept;

// Returns for how many choices the library `tokenizers` decodes the tokens, because their decoder is not known here.
std::uint64_t foreign_choices() noexcept;

}  // namespace dynamo::python::text_stages
