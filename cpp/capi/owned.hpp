// SPDX-License-Identifier: Apache-2.0
// Strings and arrays that callers own until dynamo_free().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace dynamo::capi::owned {

char *text(const std::string &text);                           // NUL-terminated
std::uint32_t *numbers(std::span<const std::uint32_t> array);  // nullptr if empty
std::uint64_t *numbers(std::span<const std::uint64_t> array);  // likewise
void *block(std::size_t size);                                 // zeroed, aligned for any type
bool free(void *pointer) noexcept;                             // false if it was not allocated here

}  // namespace dynamo::capi::owned
