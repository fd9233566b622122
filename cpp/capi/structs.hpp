// SPDX-License-Identifier: Apache-2.0
// Structs of callers, who may have been built with a header that had fewer members.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "capi/arguments.hpp"
#include "core/error.hpp"

namespace dynamo::capi {

// Throws Failure with INVALID_ARGUMENT if a struct is smaller than it ever was. `name` is the argument's.
inline void require_size(std::size_t size, std::size_t least, const char *name, const char *type) {
    if (size < least) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, std::string(name) + "->struct_size is " +
                                                         std::to_string(size) +
                                                         "; set it to sizeof(" + type + ")");
    }
}

// A copy of a caller's struct, with zeros in the members that it has not. Throws Failure with
// INVALID_ARGUMENT.
template <class Struct>
Struct taken(const Struct *given, const char *name, const char *type) {
    const std::size_t size = not_null(given, name)->struct_size;
    require_size(size, sizeof(Struct), name, type);
    Struct copy{};
    std::memcpy(&copy, given, std::min(size, sizeof copy));
    return copy;
}

// Fills a caller's struct, no more than it has. Throws Failure with INVALID_ARGUMENT.
template <class Struct>
void give(Struct *wanted, Struct filled, const char *name, const char *type) {
    const std::size_t size = not_null(wanted, name)->struct_size;
    require_size(size, sizeof(Struct), name, type);
    filled.struct_size = size;
    std::memcpy(wanted, &filled, std::min(size, sizeof filled));
}

}  // namespace dynamo::capi
