// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "base/json.hpp"
#include "base/thread_object.hpp"

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
};

thread_local std::int32_t last_status = DYNAMO_OK;
// Details of the last failed call. Without memory, or late in the end of a thread, there is only last_status.
constinit ThreadObject<Last> lasts;

}  // namespace

void reject_argument(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
}

void reject_config(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_CONFIG, message);
}

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
    return json::dump(object);
}

namespace last_error {

void set(std::int32_t status) noexcept {
    last_status = status;
    if (status >= 0) {
        return;
    }
    if (Last *const last = lasts.get()) {
        last->error = {.status = status};
        last->json.clear();
    }
}

void set(const Error &error) noexcept {
    Last *const last = lasts.get();
    if (last == nullptr) {
        last_status = error.status;
        return;
    }
    try {
        last->json.clear();
        last->error = error;
        last_status = error.status;
    } catch (...) {
        set_out_of_memory();
    }
}

void set_out_of_memory() noexcept {
    set(DYNAMO_ERROR_OUT_OF_MEMORY);
}

std::int32_t status() noexcept {
    return last_status;
}

const char *message() noexcept {
    if (last_status >= 0) {
        return "";
    }
    const Last *const last = lasts.existing();
    if (last != nullptr && last->error.status == last_status && !last->error.message.empty()) {
        return last->error.message.c_str();
    }
    return last_status == DYNAMO_ERROR_OUT_OF_MEMORY ? "out of memory" : status_name(last_status);
}

const char *json() noexcept {
    if (last_status >= 0) {
        return "{}";
    }
    Last *const last = lasts.existing();
    if (last != nullptr && last->error.status == last_status) {
        try {
            if (last->json.empty()) {
                last->json = last->error.json();
            }
            return last->json.c_str();
        } catch (...) {
            return R"({"status": -20, "name": "DYNAMO_ERROR_OUT_OF_MEMORY", "message": "out of memory"})";
        }
    }
    return "{}";
}

Error copy() {
    const Last *const last = lasts.existing();
    if (last_status < 0 && last != nullptr && last->error.status == last_status) {
        return last->error;
    }
    return {.status = last_status};
}

}  // namespace last_error
}  // namespace dynamo
