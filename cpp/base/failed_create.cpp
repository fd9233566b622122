// SPDX-License-Identifier: Apache-2.0
#include "base/failed_create.hpp"

#include <map>

#include "base/thread_object.hpp"

namespace dynamo::failed_create {
namespace {

using Errors = std::map<HandleKind, Error>;

constinit ThreadObject<Errors> errors;

}  // namespace

void forget(HandleKind kind) noexcept {
    if (Errors *const known = errors.existing()) {
        known->erase(kind);
    }
}

void remember_last(HandleKind kind) noexcept {
    forget(kind);
    if (Errors *const known = errors.get()) {
        try {
            known->emplace(kind, last_error::copy());
        } catch (const std::bad_alloc &) {  // then the error of a NULL handle lacks the reason
        }
    }
}

void rethrow(HandleKind kind) {
    const Errors *const known = errors.existing();
    if (known == nullptr || !known->contains(kind)) {
        return;
    }
    throw Failure(known->at(kind))
        .with_context(std::string("the ") + handles::kind_name(kind) +
                      " is NULL, because creating it failed earlier: ");
}

}  // namespace dynamo::failed_create
