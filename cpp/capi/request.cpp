// SPDX-License-Identifier: Apache-2.0
#include "runtime/request.hpp"

#include <memory>
#include <string>

#include "base/wait_check.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/timing.hpp"
#include "runtime/runtime.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

namespace {

void remember_failed_send(dynamo_request_t *request, const Error &error) {
    try {
        HandleRef<Request>(request)->remember_failed_send(error);
    } catch (const Failure &) {  // not a request
    }
}

}  // namespace

dynamo_request_t *dynamo_request_create(const char *request_json) {
    return created<Request>([&] {
        const auto request =
            std::make_shared<Request>(Body::parse(capi::text(request_json, "request_json")));
        dynamo_request_t *const handle = open_handle(request);
        request->set_handle(handle);
        return handle;
    });
}

dynamo_request_t *dynamo_request_create_data(int32_t kind, const void *data, size_t length) {
    return created<Request>([&] {
        if (length > 0) {
            capi::not_null(data, "data");
        }
        const auto request = std::make_shared<Request>(Body::raw(
            kind, length == 0 ? std::string_view()
                              : std::string_view(static_cast<const char *>(data), length)));
        dynamo_request_t *const handle = open_handle(request);
        request->set_handle(handle);
        return handle;
    });
}

int32_t dynamo_request_set_deadlines(dynamo_request_t *request, int64_t first_token_ms,
                                     int64_t total_ms) {
    return status_of([&] {
        HandleRef<Request>(request)->set_deadlines(first_token_ms, total_ms);
        return DYNAMO_OK;
    });
}

int32_t dynamo_request_set_callback(dynamo_request_t *request, dynamo_response_callback_t callback,
                                    void *user, dynamo_release_callback_t release) {
    return status_of([&] {
        HandleRef<Request>(request)->set_callback(callback, user, release);
        return DYNAMO_OK;
    });
}

int32_t dynamo_request_send(dynamo_runtime_t *runtime, dynamo_request_t *request) {
    return status_of([&] {
        try {
            HandleRef<Runtime> to(runtime);
            HandleRef<Request>(request)->send(to->shared_from_this());
        } catch (const Failure &failure) {
            remember_failed_send(request, failure.error());
            throw;
        }
        return DYNAMO_OK;
    });
}

dynamo_response_t *dynamo_request_recv(dynamo_request_t *request) {
    dynamo_response_t *response = nullptr;
    dynamo_request_next(request, -1, &response);
    return response;
}

int32_t dynamo_request_next(dynamo_request_t *request, int64_t timeout_ms,
                            dynamo_response_t **out) {
    if (out != nullptr) {
        *out = nullptr;
    }
    return status_of([&]() -> std::int32_t {
        capi::not_null(out, "out");
        HandleRef<Request> held(request);
        handles::Reservation place;  // made first: once taken, a response must get a handle
        std::shared_ptr<Response> response;
        if (timeout_ms != 0) {
            wait_check::require_allowed("dynamo_request_recv()", false);
        }
        const std::int32_t status = held->take(capi::timeout(timeout_ms), response);
        if (status == DYNAMO_OK) {
            *out = open_handle(place, std::move(response));
        }
        return status;
    });
}

int32_t dynamo_request_cancel(dynamo_request_t *request) {
    return status_of([&] {
        HandleRef<Request>(request)->cancel("its caller asked for it");
        return DYNAMO_OK;
    });
}

int dynamo_request_fd(dynamo_request_t *request) {
    return value_of(-1, [&] { return HandleRef<Request>(request)->fd(); });
}

int32_t dynamo_request_notify(dynamo_request_t *request, dynamo_ready_callback_t callback,
                              void *user) {
    return status_of([&] {
        HandleRef<Request>(request)->notify(callback, user);
        return DYNAMO_OK;
    });
}

int32_t dynamo_request_status(dynamo_request_t *request) {
    std::int32_t status = DYNAMO_PENDING;
    const std::int32_t outcome = status_of([&] {
        status = HandleRef<Request>(request)->status();
        return DYNAMO_OK;
    });
    return outcome == DYNAMO_OK ? status : outcome;
}

const char *dynamo_request_error(dynamo_request_t *request) {
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Request> held(request);  // keeps the request alive while its text is read
        const std::string *const text = held->error();
        return text == nullptr ? nullptr : text->c_str();
    });
}

const char *dynamo_request_error_json(dynamo_request_t *request) {
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Request> held(request);
        const std::string *const text = held->error_json();
        return text == nullptr ? nullptr : text->c_str();
    });
}

const char *dynamo_request_id(dynamo_request_t *request) {
    return value_of<const char *>(nullptr,
                                  [&] { return HandleRef<Request>(request)->id().c_str(); });
}

int32_t dynamo_request_usage(dynamo_request_t *request, dynamo_usage_t *usage) {
    return status_of([&] {
        capi::fill(usage, HandleRef<Request>(request)->usage());
        return DYNAMO_OK;
    });
}

int32_t dynamo_request_timing(dynamo_request_t *request, dynamo_timing_t *timing) {
    return status_of([&] {
        capi::fill(timing, HandleRef<Request>(request)->timing());
        return DYNAMO_OK;
    });
}

void dynamo_request_destroy(dynamo_request_t *request) {
    status_of([&] {
        if (request == nullptr) {
            return DYNAMO_OK;
        }
        HandleRef<Request> held(request);
        if (close_handle<Request>(request)) {
            held->abandon();
        }
        return DYNAMO_OK;
    });
}
