// SPDX-License-Identifier: Apache-2.0
// The rule by which this library serves what was built with its headers (docs/abi.md).
#pragma once

#include <cstdint>

namespace dynamo::version {

// Returns whether this library can serve what was built with a header: the ABI is the same, and the library is not older
// than the header. Throws Failure with INVALID_ARGUMENT if header_version is NULL or not a version.
bool can_serve(std::uint32_t header_abi, const char *header_version);

}  // namespace dynamo::version
