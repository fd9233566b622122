// SPDX-License-Identifier: Apache-2.0
#include "runtime/start_progress.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "base/utf8.hpp"

namespace dynamo::start_progress {
namespace {

thread_local constinit ProgressReceiver *current = nullptr;
thread_local constinit const std::string *current_model = nullptr;

// Keeps a report small, whatever an engine passes.
constexpr std::size_t longest_phase = 256;

Progress checked(const dynamo_progress_t &given) {
    if (given.phase == nullptr || given.phase[0] == '\0') {
        reject_argument(
            "progress->phase is NULL or empty; name what the engine does, such as \"weights\"");
    }
    if (std::strlen(given.phase) > longest_phase) {
        reject_argument("progress->phase is longer than " + std::to_string(longest_phase) +
                        " bytes");
    }
    Progress progress;
    progress.phase = as_utf8(given.phase);
    progress.bytes_done = given.bytes_done;
    progress.bytes_total = given.bytes_total;
    if (given.bytes_total > 0) {
        progress.fraction = std::min(
            1.0, static_cast<double>(given.bytes_done) / static_cast<double>(given.bytes_total));
    } else if (given.fraction == -1 || (given.fraction >= 0 && given.fraction <= 1)) {
        progress.fraction = given.fraction;
    } else {
        reject_argument("progress->fraction must be from 0 to 1, or -1 if it is not known");
    }
    return progress;
}

}  // namespace

Scope::Scope(ProgressReceiver &receiver) noexcept {
    current = &receiver;
}

Scope::~Scope() {
    current = nullptr;
    current_model = nullptr;
}

bool is_receiver(const ProgressReceiver &receiver) noexcept {
    return current == &receiver;
}

void begin_model(const std::string &name) {
    if (current == nullptr) {
        return;
    }
    current_model = &name;
    if (!current->on_progress({.phase = "engine", .model = name})) {
        throw Failure(DYNAMO_ERROR_CANCELLED, "the creation of the runtime was cancelled");
    }
}

bool report(const dynamo_progress_t *report) {
    if (report == nullptr) {
        return current == nullptr || !current->is_cancelled();
    }
    Progress progress = checked(*report);
    if (current == nullptr) {
        return true;
    }
    if (current_model != nullptr) {
        progress.model = *current_model;
    }
    return current->on_progress(std::move(progress));
}

}  // namespace dynamo::start_progress
