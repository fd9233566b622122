// SPDX-License-Identifier: Apache-2.0
#include "core/queue.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "core/request.hpp"

using namespace dynamo;
using capi::status_of;
using capi::value_of;

dynamo_queue_t *dynamo_queue_create(void) {
    return value_of<dynamo_queue_t *>(nullptr,
                                      [] { return open_handle(std::make_shared<Queue>()); });
}

int32_t dynamo_request_set_queue(dynamo_request_t *request, dynamo_queue_t *queue, void *user) {
    return status_of([&] {
        Held<Request> held(request);
        held->set_queue(Held<Queue>(queue)->shared_from_this(), user);
        return DYNAMO_OK;
    });
}

int32_t dynamo_queue_next(dynamo_queue_t *queue, int64_t timeout_ms, dynamo_event_t *event) {
    constexpr std::size_t least = offsetof(dynamo_event_t, status) + sizeof event->status;
    const std::size_t size = event == nullptr ? 0 : event->struct_size;
    dynamo_event_t filled{};
    filled.struct_size = size;
    if (size >= least) {
        std::memcpy(event, &filled, std::min(size, sizeof filled));
    }
    return status_of([&]() -> std::int32_t {
        capi::not_null(event, "event");
        if (size < least) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "event->struct_size is " +
                                                             std::to_string(size) +
                                                             "; set it to sizeof(dynamo_event_t)");
        }
        Held<Queue> held(queue);
        handles::Reserved place;  // a response that was taken must get a handle
        Queue::Event next;
        const std::int32_t status = held->next(capi::timeout(timeout_ms), next);
        if (status == DYNAMO_OK) {
            filled.request = next.request;
            filled.user = next.user;
            filled.status = next.status;
            if (next.response != nullptr) {
                filled.response = open_handle(place, std::move(next.response));
            }
            std::memcpy(event, &filled, std::min(size, sizeof filled));
        }
        return status;
    });
}

void dynamo_queue_destroy(dynamo_queue_t *queue) {
    status_of([&] {
        if (queue == nullptr) {
            return DYNAMO_OK;
        }
        Held<Queue> held(queue);
        if (close_handle<Queue>(queue)) {
            held->close();
        }
        return DYNAMO_OK;
    });
}
