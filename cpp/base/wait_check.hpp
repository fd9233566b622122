// SPDX-License-Identifier: Apache-2.0
// Which threads may wait inside the library.
//
// Some threads would deadlock: one that runs the event loop on which an engine works, or one that holds a lock which
// such an engine needs. The host of such engines (Python's, for example) knows these threads and registers a callback.
// Functions that would wait fail with INVALID_STATE there, and objects that are destroyed there stop their engines in
// the background.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dynamo::wait_check {

// Returns non-zero if the calling thread must not wait, and writes the reason and the remedy to `reason` (`size`
// bytes). Takes no lock and does not block.
//   call       the function that would wait, for the reason: "dynamo_request_recv()"
//   is_hosted  whether it would wait for an engine of the host; then the thread must not hold the host's lock
using Callback = std::int32_t (*)(const char *call, std::int32_t is_hosted, char *reason,
                                  std::size_t size);
void set_callback(Callback callback) noexcept;

// Throws Failure with INVALID_STATE if the calling thread must not wait. is_hosted: as for Callback; false checks less,
// and costs a nanosecond.
void require_allowed(const char *call, bool is_hosted);
bool is_allowed(bool is_hosted) noexcept;

}  // namespace dynamo::wait_check
