// SPDX-License-Identifier: Apache-2.0
// The thread that runs callers' callbacks.
#pragma once

#include <memory>

namespace dynamo {

class Request;

namespace dispatcher {

// Starts the thread if need be. Throws Failure with SYSTEM.
void start();

// Has Request::deliver() called in the thread. start() came before.
void post(std::shared_ptr<Request> request);

}  // namespace dispatcher
}  // namespace dynamo
