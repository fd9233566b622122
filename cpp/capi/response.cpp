// SPDX-License-Identifier: Apache-2.0
#include "stream/response.hpp"

#include <string>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/structs.hpp"
#include "capi/timing.hpp"

using namespace dynamo;
using capi::status_of;
using capi::value_of;

const char *dynamo_response_text(const dynamo_response_t *response, size_t *length) {
    if (length != nullptr) {
        *length = 0;
    }
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Response> held(response);
        if (length != nullptr) {
            *length = held->text.size();
        }
        return held->text.c_str();
    });
}

const uint32_t *dynamo_response_token_ids(const dynamo_response_t *response, size_t *count) {
    if (count != nullptr) {
        *count = 0;
    }
    return value_of<const uint32_t *>(nullptr, [&]() -> const uint32_t * {
        HandleRef<Response> held(response);
        if (count != nullptr) {
            *count = held->token_ids.size();
        }
        return held->token_ids.empty() ? nullptr : held->token_ids.data();
    });
}

uint32_t dynamo_response_index(const dynamo_response_t *response) {
    return value_of<uint32_t>(0, [&] { return HandleRef<Response>(response)->index; });
}

const char *dynamo_response_finish_reason(const dynamo_response_t *response) {
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Response> held(response);
        return held->finish_reason.empty() ? nullptr : held->finish_reason.c_str();
    });
}

int32_t dynamo_response_usage(const dynamo_response_t *response, dynamo_usage_t *usage) {
    return status_of([&]() -> std::int32_t {
        HandleRef<Response> held(response);
        capi::fill(usage, held->usage ? *held->usage : Usage());
        return held->usage ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

int32_t dynamo_response_timing(const dynamo_response_t *response, dynamo_timing_t *timing) {
    return status_of([&]() -> std::int32_t {
        HandleRef<Response> held(response);
        capi::fill(timing, held->timing ? *held->timing : Timing());
        return held->timing ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

const char *dynamo_response_json(dynamo_response_t *response) {
    return value_of<const char *>(nullptr,
                                  [&] { return HandleRef<Response>(response)->json().c_str(); });
}

size_t dynamo_response_item_count(const dynamo_response_t *response) {
    return value_of<std::size_t>(0, [&] {
        HandleRef<Response> held(response);
        return held->payloads == nullptr ? std::size_t{0} : held->payloads->size();
    });
}

int32_t dynamo_response_item(const dynamo_response_t *response, size_t index, dynamo_data_t *item) {
    return status_of([&] {
        HandleRef<Response> held(response);
        *capi::not_null(item, "item") = {nullptr, 0, 0};
        const std::size_t count = held->payloads == nullptr ? 0 : held->payloads->size();
        if (index >= count) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "index is " + std::to_string(index) +
                                                             ", but the response has " +
                                                             std::to_string(count) + " item(s)");
        }
        const Payload &found = (*held->payloads)[index];
        *item = {found.bytes.c_str(), found.bytes.size(), found.kind};
        return DYNAMO_OK;
    });
}
