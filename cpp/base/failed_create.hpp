// SPDX-License-Identifier: Apache-2.0
// Why this thread's last attempt to create an object of each kind failed. A program that does not check the result of
// a create function passes NULL to the next function; its error then still explains the original failure.
#pragma once

#include "base/error.hpp"
#include "base/handle.hpp"

namespace dynamo::failed_create {

// Records that this thread has created an object of a kind, or has failed to.
void forget(HandleKind kind) noexcept;
void remember_last(HandleKind kind) noexcept;  // with this thread's last error

// Called for a NULL handle: throws Failure with the status and details of this thread's last create of that kind, if
// that failed.
void rethrow(HandleKind kind);

}  // namespace dynamo::failed_create
