// SPDX-License-Identifier: Apache-2.0
#include "base/version.hpp"

#include <cstdio>
#include <tuple>

#include "base/error.hpp"

namespace dynamo::version {

bool can_serve(std::uint32_t header_abi, const char *header_version) {
    unsigned major, minor, patch;
    char rest;
    if (header_version == nullptr ||
        std::sscanf(header_version, "%u.%u.%u%c", &major, &minor, &patch, &rest) != 3) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      "header_version must be DYNAMO_LLM_VERSION_STRING, like \"1.0.0\"");
    }
    const auto own = std::make_tuple(DYNAMO_LLM_VERSION_MAJOR + 0u, DYNAMO_LLM_VERSION_MINOR + 0u,
                                     DYNAMO_LLM_VERSION_PATCH + 0u);
    return header_abi == DYNAMO_LLM_ABI_VERSION && std::tie(major, minor, patch) <= own;
}

}  // namespace dynamo::version
