// SPDX-License-Identifier: Apache-2.0
#include "base/json_document.hpp"
#include "base/platform.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

dynamo_json_t *dynamo_json_create(const char *text) {
    return created<JsonDocument>(
        [&] { return open_handle(std::make_shared<JsonDocument>(capi::not_null(text, "text"))); });
}

void dynamo_json_destroy(dynamo_json_t *json) {
    // An engine sets its error with dynamo_engine_error(), and then cleans up.
    if (!platform::is_forked_child() && close_handle<JsonDocument>(json)) {
        return;
    }
    status_of([&] {
        if (json != nullptr) {
            const HandleRef<JsonDocument> reject_stale(json);
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_json_type(const dynamo_json_t *json, const char *pointer) {
    std::int32_t type = DYNAMO_JSON_ABSENT;
    const std::int32_t status = status_of([&] {
        type = HandleRef<JsonDocument>(json)->type(capi::not_null(pointer, "pointer"));
        return DYNAMO_OK;
    });
    return status == DYNAMO_OK ? type : status;
}

const char *dynamo_json_string(const dynamo_json_t *json, const char *pointer, size_t *length) {
    if (length != nullptr) {
        *length = 0;
    }
    return value_of<const char *>(nullptr, [&]() -> const char * {
        HandleRef<JsonDocument> held(json);
        const std::string *const text = held->string(capi::not_null(pointer, "pointer"));
        if (text == nullptr) {
            return nullptr;
        }
        if (length != nullptr) {
            *length = text->size();
        }
        return text->c_str();
    });
}

int32_t dynamo_json_boolean(const dynamo_json_t *json, const char *pointer, int32_t otherwise) {
    return value_of(otherwise, [&] {
        const std::optional<bool> value =
            HandleRef<JsonDocument>(json)->boolean(capi::not_null(pointer, "pointer"));
        return value ? std::int32_t{*value} : otherwise;
    });
}

double dynamo_json_number(const dynamo_json_t *json, const char *pointer, double otherwise) {
    return value_of(otherwise, [&] {
        return HandleRef<JsonDocument>(json)
            ->number(capi::not_null(pointer, "pointer"))
            .value_or(otherwise);
    });
}

int64_t dynamo_json_integer(const dynamo_json_t *json, const char *pointer, int64_t otherwise) {
    return value_of(otherwise, [&] {
        return HandleRef<JsonDocument>(json)
            ->integer(capi::not_null(pointer, "pointer"))
            .value_or(otherwise);
    });
}

size_t dynamo_json_count(const dynamo_json_t *json, const char *pointer) {
    return value_of<std::size_t>(0, [&] {
        return HandleRef<JsonDocument>(json)->count(capi::not_null(pointer, "pointer"));
    });
}

const char *dynamo_json_name(const dynamo_json_t *json, const char *pointer, size_t index) {
    return value_of<const char *>(nullptr, [&] {
        HandleRef<JsonDocument> held(json);
        return held->name(capi::not_null(pointer, "pointer"), index).c_str();
    });
}
