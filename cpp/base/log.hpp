// SPDX-License-Identifier: Apache-2.0
// Log records of the library, with one log callback per process.
#pragma once

#include <cstdint>
#include <string>

#include "dynamo_llm.h"

namespace dynamo::log {

void set_callback(std::int32_t level, dynamo_log_callback_t callback, void *user,
                  dynamo_release_callback_t release);
std::int32_t level() noexcept;
// Does not throw; a log callback may end the thread (base/callback.hpp). Records that are written inside the log
// callback of this thread are dropped.
void write(std::int32_t level, const char *logger, const char *message);
// As write(), but inside the log callback of this thread the record goes to stderr.
void write_always(std::int32_t level, const char *logger, const char *message);

}  // namespace dynamo::log
