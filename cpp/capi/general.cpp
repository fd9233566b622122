// SPDX-License-Identifier: Apache-2.0
// Versions, status, errors, memory, logging.
#include <string>

#include "base/log.hpp"
#include "base/version.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "dynamo_llm/engine.h"
#include "stream/response.hpp"

using namespace dynamo;
using capi::status_of;

uint32_t dynamo_abi_version(void) {
    return DYNAMO_LLM_ABI_VERSION;
}

const char *dynamo_version_string(void) {
    return DYNAMO_LLM_VERSION_STRING;
}

int32_t dynamo_version_check(uint32_t header_abi, const char *header_version) {
    return status_of([&] {
        if (!version::can_serve(header_abi, header_version)) {
            throw Failure(DYNAMO_ERROR_VERSION_MISMATCH,
                          std::string("the program was built with dynamo_llm.h ") + header_version +
                              " (ABI " + std::to_string(header_abi) +
                              "), but the library that is loaded is " DYNAMO_LLM_VERSION_STRING
                              " (ABI " +
                              std::to_string(DYNAMO_LLM_ABI_VERSION) +
                              "); it must have the same ABI and not be older");
        }
        return DYNAMO_OK;
    });
}

const char *dynamo_status_name(int32_t status) {
    return status_name(status);
}

int32_t dynamo_last_status(void) {
    return last_error::status();
}

const char *dynamo_last_error(void) {
    return last_error::message();
}

const char *dynamo_last_error_json(void) {
    return last_error::json();
}

void dynamo_free(void *pointer) {
    status_of([&] {
        if (pointer == nullptr) {
            return DYNAMO_OK;
        }
        const bool freed = handles::looks_like_handle(pointer)
                               ? close_handle<Response>(static_cast<dynamo_response_t *>(pointer))
                               : capi::owned::free(pointer);
        if (!freed) {
            const HandleKind kind = handles::claimed_kind(pointer);
            if (kind != HandleKind{} && kind != HandleKind::response) {
                throw Failure(DYNAMO_ERROR_INVALID_HANDLE,
                              std::string("dynamo_free() was given a ") + handles::kind_name(kind) +
                                  "; call " + handles::release_function(kind) + " instead");
            }
            throw Failure(DYNAMO_ERROR_INVALID_HANDLE,
                          "dynamo_free() was given a pointer that is not, or no longer, the "
                          "caller's: responses, strings and arrays that a function says the "
                          "caller owns may be freed, once");
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_log_set_callback(int32_t level, dynamo_log_callback_t callback, void *user,
                                dynamo_release_callback_t release) {
    return status_of([&] {
        if (level < DYNAMO_LOG_TRACE || level > DYNAMO_LOG_OFF) {
            throw Failure(
                DYNAMO_ERROR_INVALID_ARGUMENT,
                "level must be a dynamo_log_level_t from 0 to 5, not " + std::to_string(level));
        }
        log::set_callback(level, callback, user, release);
        return DYNAMO_OK;
    });
}

void dynamo_log_write(int32_t level, const char *logger, const char *message) {
    if (logger != nullptr && message != nullptr && !platform::is_forked_child()) {
        log::write(level, logger, message);
    }
}

int32_t dynamo_log_level(void) {
    return log::level();
}
