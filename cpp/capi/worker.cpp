// SPDX-License-Identifier: Apache-2.0
#include "services/worker.hpp"

#include <memory>
#include <string>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "capi/structs.hpp"
#include "embed/python.hpp"
#include "engines/native.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

dynamo_worker_t *dynamo_worker_create(const char *config_json) {
    return created<Worker>([&] {
        RuntimeConfig config = Worker::parse_config(capi::text(config_json, "config_json"));
        engines::register_native();
        config.models.front().engine = embed::engine_from_python(config.models.front());
        return open_handle(std::make_shared<Worker>(config));
    });
}

void dynamo_worker_destroy(dynamo_worker_t *worker) {
    status_of([&] {
        if (worker == nullptr) {
            return DYNAMO_OK;
        }
        HandleRef<Worker> held(worker);
        if (close_handle<Worker>(worker)) {
            held->abandon();  // otherwise a thread waiting for the worker to stop would keep it alive
        } else {
            HandleRef<Worker> says_why(worker);
        }
        return DYNAMO_OK;
    });
}

char *dynamo_worker_info(dynamo_worker_t *worker) {
    return value_of<char *>(nullptr,
                            [&] { return capi::owned::text(HandleRef<Worker>(worker)->info()); });
}

int32_t dynamo_worker_shutdown(dynamo_worker_t *worker, int64_t timeout_ms) {
    return status_of([&] {
        HandleRef<Worker> held(worker);
        capi::timeout(timeout_ms);
        const std::uint64_t cancelled = held->shutdown(timeout_ms);
        if (cancelled > 0) {
            throw Failure(DYNAMO_ERROR_DEADLINE_EXCEEDED,
                          std::to_string(cancelled) + " request(s) had not ended after " +
                              std::to_string(timeout_ms) + " ms and were cancelled");
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_worker_wait(dynamo_worker_t *worker, int64_t timeout_ms) {
    return status_of([&] {
        HandleRef<Worker> held(worker);
        capi::timeout(timeout_ms);
        return held->wait(timeout_ms) ? DYNAMO_END : DYNAMO_PENDING;
    });
}

int32_t dynamo_worker_publish_load(dynamo_worker_t *worker, const dynamo_worker_load_t *load) {
    return status_of([&] {
        HandleRef<Worker> held(worker);
        held->publish_load(capi::read(load, "load"));
        return DYNAMO_OK;
    });
}
