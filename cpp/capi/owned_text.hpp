// SPDX-License-Identifier: Apache-2.0
// Strings that callers own until dynamo_free().
#pragma once

#include <string>

namespace dynamo::capi::owned_text {

char *make(const std::string &text);
bool free(void *pointer) noexcept;  // false if it is none of ours

}  // namespace dynamo::capi::owned_text
