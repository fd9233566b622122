// SPDX-License-Identifier: Apache-2.0
// Where log records of the library go. One per process.
#pragma once

#include <cstdint>
#include <string>

#include "dynamo_llm.h"

namespace dynamo::log {

void set_callback(std::int32_t level, dynamo_log_callback_t callback, void *user,
                  dynamo_release_callback_t release);
std::int32_t level() noexcept;
void write(std::int32_t level, const char *logger, const char *message) noexcept;

}  // namespace dynamo::log
