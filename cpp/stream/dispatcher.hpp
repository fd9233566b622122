// SPDX-License-Identifier: Apache-2.0
// The thread that runs callers' callbacks.
#pragma once

#include <memory>

namespace dynamo {

// An object with callbacks to call.
class Deliverable {
  public:
    // Delivers one event to a callback. Returns true if there may be more. Throws std::bad_alloc before anything is
    // taken.
    virtual bool deliver() = 0;

    // Used by the dispatcher only, under its lock.
    std::shared_ptr<Deliverable> next_to_deliver;
    bool awaits_delivery = false;

  protected:
    ~Deliverable() = default;
};

namespace dispatcher {

// Starts the thread if it does not run yet. Throws Failure with SYSTEM.
void start();

// Whether this is the dispatcher's thread, which must not wait for a callback.
bool is_this_thread() noexcept;

// Schedules item->deliver(). Requires start().
void post(std::shared_ptr<Deliverable> item);

}  // namespace dispatcher
}  // namespace dynamo
