// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.hpp"

DYNAMO_LLM_BEGIN

/**
 * Sets the receiver of log records for the whole process: a function `void(int32_t level, std::string_view logger,
 * std::string_view message)`, called from any thread, several at the same time. It should not throw: if it does, the
 * record and the exception go to stderr. It is copied or moved to the heap, once, and destroyed after another one
 * was set.
 */
template <class Function>
Returned<void> set_log(dynamo_log_level_t level, Function &&function) {
    using Kept = std::decay_t<Function>;
    auto kept = std::make_unique<Kept>(std::forward<Function>(function));
    const std::int32_t status = dynamo_log_set_callback(
        level,
        [](void *user, std::int32_t record_level, const char *logger, const char *message) {
            (*static_cast<Kept *>(user))(record_level, detail::view(logger), detail::view(message));
        },
        kept.get(), [](void *user) { delete static_cast<Kept *>(user); });
    if (status == DYNAMO_OK) {
        kept.release();
    }
    return detail::done(status);
}

/** Sends log records of at least a level to stderr again; DYNAMO_LOG_OFF for none. */
inline Returned<void> set_log(dynamo_log_level_t level) {
    return detail::done(dynamo_log_set_callback(level, nullptr, nullptr, nullptr));
}

DYNAMO_LLM_END
