// SPDX-License-Identifier: Apache-2.0
#include "capi/barrier.hpp"

namespace dynamo::capi {

std::int32_t remember_current_exception() noexcept {
    try {
        throw;
    } catch (const Failure &failure) {
        last_error::set(failure.error());
    } catch (const std::bad_alloc &) {
        last_error::set_out_of_memory();
    } catch (const std::exception &exception) {
        try {
            Error error;
            error.status = DYNAMO_ERROR_INTERNAL;
            error.message = std::string("unexpected: ") + exception.what();
            last_error::set(error);
        } catch (...) {
            last_error::set_out_of_memory();
        }
    } catch (...) {
        last_error::set(DYNAMO_ERROR_INTERNAL);
    }
    return last_error::status();
}

std::int32_t remember_fork() noexcept {
    try {
        Error error;
        error.status = DYNAMO_ERROR_FORKED;
        error.message =
            "this process was forked from one that used the library; only the parent may go on "
            "using it (start the child with exec() or posix_spawn())";
        last_error::set(error);
    } catch (...) {
        last_error::set(DYNAMO_ERROR_FORKED);
    }
    return DYNAMO_ERROR_FORKED;
}

}  // namespace dynamo::capi
