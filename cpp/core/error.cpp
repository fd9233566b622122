// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "core/json.hpp"

namespace dynamo {
namespace {

struct Name {
    std::int32_t status;
    const char *name;
};

#define DYNAMO_NAME(status) \
    Name {                  \
        status, #status     \
    }
constexpr std::array names = {
    DYNAMO_NAME(DYNAMO_OK),
    DYNAMO_NAME(DYNAMO_END),
    DYNAMO_NAME(DYNAMO_PENDING),
    DYNAMO_NAME(DYNAMO_ERROR_INVALID_ARGUMENT),
    DYNAMO_NAME(DYNAMO_ERROR_INVALID_HANDLE),
    DYNAMO_NAME(DYNAMO_ERROR_INVALID_STATE),
    DYNAMO_NAME(DYNAMO_ERROR_INVALID_JSON),
    DYNAMO_NAME(DYNAMO_ERROR_INVALID_CONFIG),
    DYNAMO_NAME(DYNAMO_ERROR_INVALID_REQUEST),
    DYNAMO_NAME(DYNAMO_ERROR_ENGINE_NOT_FOUND),
    DYNAMO_NAME(DYNAMO_ERROR_ENGINE_UNAVAILABLE),
    DYNAMO_NAME(DYNAMO_ERROR_MODEL_NOT_FOUND),
    DYNAMO_NAME(DYNAMO_ERROR_PYTHON_UNAVAILABLE),
    DYNAMO_NAME(DYNAMO_ERROR_ENGINE_FAILED),
    DYNAMO_NAME(DYNAMO_ERROR_CANCELLED),
    DYNAMO_NAME(DYNAMO_ERROR_DEADLINE_EXCEEDED),
    DYNAMO_NAME(DYNAMO_ERROR_OVERLOADED),
    DYNAMO_NAME(DYNAMO_ERROR_UNAVAILABLE),
    DYNAMO_NAME(DYNAMO_ERROR_SLOW_CONSUMER),
    DYNAMO_NAME(DYNAMO_ERROR_CONTEXT_LENGTH),
    DYNAMO_NAME(DYNAMO_ERROR_CLOSED),
    DYNAMO_NAME(DYNAMO_ERROR_FORKED),
    DYNAMO_NAME(DYNAMO_ERROR_OUT_OF_MEMORY),
    DYNAMO_NAME(DYNAMO_ERROR_NOT_SUPPORTED),
    DYNAMO_NAME(DYNAMO_ERROR_VERSION_MISMATCH),
    DYNAMO_NAME(DYNAMO_ERROR_SYSTEM),
    DYNAMO_NAME(DYNAMO_ERROR_INTERNAL),
};
#undef DYNAMO_NAME

bool is_retriable(std::int32_t status) {
    return status == DYNAMO_ERROR_OVERLOADED || status == DYNAMO_ERROR_UNAVAILABLE ||
           status == DYNAMO_ERROR_DEADLINE_EXCEEDED || status == DYNAMO_ERROR_SLOW_CONSUMER ||
           status == DYNAMO_ERROR_OUT_OF_MEMORY || status == DYNAMO_ERROR_SYSTEM;
}

bool is_fatal(std::int32_t status) {
    return status == DYNAMO_ERROR_CLOSED || status == DYNAMO_ERROR_FORKED ||
           status == DYNAMO_ERROR_VERSION_MISMATCH || status == DYNAMO_ERROR_INTERNAL;
}

struct Last {
    Error error;
    std::string json;
    ~Last();
};

// A thread's own destructors may still call the library after Last is gone; the flag has no
// destructor and outlives it.
thread_local bool last_is_gone = false;
thread_local std::int32_t last_status = DYNAMO_OK;
thread_local Last last;

Last::~Last() {
    last_is_gone = true;
}

constexpr const char *out_of_memory = "out of memory";

}  // namespace

const char *status_name(std::int32_t status) noexcept {
    for (const Name &entry : names) {
        if (entry.status == status) {
            return entry.name;
        }
    }
    return "DYNAMO_UNKNOWN_STATUS";
}

std::int32_t status_of_name(const std::string &name) noexcept {
    for (const Name &entry : names) {
        if (name == entry.name || "DYNAMO_ERROR_" + name == entry.name) {
            return entry.status;
        }
    }
    return DYNAMO_OK;
}

std::string Error::json() const {
    json::OrderedJson object = {
        {"status", status}, {"name", status_name(status)}, {"message", message}, {"layer", layer}};
    if (!engine.empty()) {
        object["engine"] = engine;
    }
    if (!request_id.empty()) {
        object["request_id"] = request_id;
    }
    object["retriable"] = is_retriable(status);
    object["fatal"] = is_fatal(status);
    if (!detail.empty()) {
        try {
            object.update(json::OrderedJson(json::parse_object(detail, "detail", status)));
        } catch (const Failure &) {
            object["detail"] = detail;
        }
    }
    return object.dump(-1, ' ', false, json::OrderedJson::error_handler_t::replace);
}

namespace last_error {

namespace {

void set_failure(std::int32_t status) noexcept {
    if (!last_is_gone) {
        last.error = Error();
        last.error.status = status;
        last.json.clear();
    }
}

}  // namespace

void set(std::int32_t status) noexcept {
    last_status = status;
    if (status < 0) {
        set_failure(status);
    }
}

void set(const Error &error) noexcept {
    last_status = error.status;
    if (last_is_gone) {
        return;
    }
    try {
        last.json.clear();
        last.error = error;
    } catch (...) {
        set_out_of_memory();
    }
}

void set_out_of_memory() noexcept {
    last_status = DYNAMO_ERROR_OUT_OF_MEMORY;
    if (!last_is_gone) {
        last.error = Error();
        last.error.status = DYNAMO_ERROR_OUT_OF_MEMORY;
        last.json.clear();
    }
}

std::int32_t status() noexcept {
    return last_status;
}

const char *message() noexcept {
    if (last_status >= 0) {
        return "";
    }
    if (last_status == DYNAMO_ERROR_OUT_OF_MEMORY && (last_is_gone || last.error.message.empty())) {
        return out_of_memory;
    }
    return last_is_gone ? "" : last.error.message.c_str();
}

const char *json() noexcept {
    if (last_status >= 0 || last_is_gone) {
        return "{}";
    }
    try {
        if (last.json.empty()) {
            last.json = last.error.json();
        }
        return last.json.c_str();
    } catch (...) {
        return R"({"status": -20, "name": "DYNAMO_ERROR_OUT_OF_MEMORY", "message": "out of memory"})";
    }
}

Error copy() {
    if (last_status >= 0 || last_is_gone) {
        Error error;
        error.status = last_status;
        return error;
    }
    return last.error;
}

}  // namespace last_error
}  // namespace dynamo
