// SPDX-License-Identifier: Apache-2.0
// The progress of engines that are being started, for whoever creates a runtime without waiting. It belongs to the
// thread that starts the engines: an engine reports without a handle.
#pragma once

#include <cstdint>
#include <string>

#include "dynamo_llm.h"

namespace dynamo {

struct Progress {
    std::string phase;
    std::string model;  // its name in the configuration; "" if it has none
    std::uint64_t bytes_done = 0;
    std::uint64_t bytes_total = 0;  // 0: unknown
    double fraction = -1;           // -1: unknown
};

// Receives the progress of a creation.
class ProgressReceiver {
  public:
    // Returns false if the creation was cancelled.
    virtual bool on_progress(Progress progress) = 0;
    virtual bool is_cancelled() const = 0;

  protected:
    ~ProgressReceiver() = default;
};

namespace start_progress {

// While it exists, the engines that this thread starts report to a receiver.
class Scope {
  public:
    explicit Scope(ProgressReceiver &receiver) noexcept;
    ~Scope();
    Scope(const Scope &) = delete;
};

// Whether this thread starts engines for a receiver.
bool is_receiver(const ProgressReceiver &receiver) noexcept;

// The model with this name comes next. Throws Failure with CANCELLED if the creation was cancelled.
void begin_model(const std::string &name);

// Reports what an engine did; without a report only asks. Returns false if the creation was cancelled. Throws Failure
// with INVALID_ARGUMENT.
bool report(const dynamo_progress_t *report);

}  // namespace start_progress
}  // namespace dynamo
