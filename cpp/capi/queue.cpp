// SPDX-License-Identifier: Apache-2.0
#include "stream/queue.hpp"

#include <memory>

#include "base/structs.hpp"
#include "base/wait_check.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "runtime/request.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

dynamo_queue_t *dynamo_queue_create(void) {
    return created<Queue>([] { return open_handle(std::make_shared<Queue>()); });
}

int32_t dynamo_request_set_queue(dynamo_request_t *request, dynamo_queue_t *queue, void *user) {
    return status_of([&] {
        HandleRef<Request> held(request);
        held->set_queue(HandleRef<Queue>(queue)->shared_from_this(), user);
        return DYNAMO_OK;
    });
}

int32_t dynamo_queue_next(dynamo_queue_t *queue, int64_t timeout_ms, dynamo_event_t *event) {
    structs::clear(event);  // even in a forked child, where the body below does not run
    return status_of([&]() -> std::int32_t {
        dynamo_event_t filled{};
        structs::size_of(event, "event");
        HandleRef<Queue> held(queue);
        handles::Reservation place;  // made first: once taken, a response must get a handle
        Queue::Event next;
        if (timeout_ms != 0) {
            wait_check::require_allowed("dynamo_queue_next()", false);
        }
        const std::int32_t status = held->next(capi::timeout(timeout_ms), next);
        if (status == DYNAMO_OK) {
            filled.request = next.request;
            filled.user = next.user;
            filled.status = next.status;
            if (next.response != nullptr) {
                filled.response = open_handle(place, std::move(next.response));
            }
            structs::write(event, filled, "event");
        }
        return status;
    });
}

int dynamo_queue_fd(dynamo_queue_t *queue) {
    return value_of(-1, [&] { return HandleRef<Queue>(queue)->fd(); });
}

int32_t dynamo_queue_wake(dynamo_queue_t *queue) {
    return status_of([&] {
        HandleRef<Queue>(queue)->wake();
        return DYNAMO_OK;
    });
}

void dynamo_queue_destroy(dynamo_queue_t *queue) {
    status_of([&] {
        if (queue == nullptr) {
            return DYNAMO_OK;
        }
        HandleRef<Queue> held(queue);
        if (close_handle<Queue>(queue)) {
            held->close();
        }
        return DYNAMO_OK;
    });
}
