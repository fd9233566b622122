// SPDX-License-Identifier: Apache-2.0
#include "runtime/runtime.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "embed/python.hpp"
#include "engines/native.hpp"
#include "runtime/creation.hpp"
#include "runtime/engine_registry.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

namespace {

// Also makes the engines known.
RuntimeConfig parse(const char *config_json) {
    RuntimeConfig config = RuntimeConfig::parse(capi::text(config_json, "config_json"));
    engines::register_native();
    engine_registry::set_fallback(embed::engine_from_python);
    return config;
}

}  // namespace

dynamo_runtime_t *dynamo_runtime_create(const char *config_json) {
    return created<Runtime>([&] {
        const RuntimeConfig config = parse(config_json);
        const std::shared_ptr<Runtime> runtime = Runtime::create(config);
        try {
            return open_handle(runtime);
        } catch (...) {
            runtime->abandon();  // stops the engine
            throw;
        }
    });
}

dynamo_creation_t *dynamo_runtime_create_async(const char *config_json,
                                               dynamo_creation_callback_t callback, void *user,
                                               dynamo_release_callback_t release) {
    return created<Creation>([&] {
        const auto creation = std::make_shared<Creation>(callback, user, release);
        handles::Reservation place;  // made first: nothing may fail once the thread runs
        creation->start(parse(config_json));
        return open_handle(place, creation);
    });
}

int32_t dynamo_creation_cancel(dynamo_creation_t *creation) {
    return status_of([&] {
        HandleRef<Creation>(creation)->cancel();
        return DYNAMO_OK;
    });
}

int32_t dynamo_creation_wait(dynamo_creation_t *creation, int64_t timeout_ms) {
    return status_of([&] {
        const HandleRef<Creation> held(creation);
        return held->wait(capi::timeout(timeout_ms)) ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

void dynamo_creation_destroy(dynamo_creation_t *creation) {
    status_of([&] {
        if (creation == nullptr) {
            return DYNAMO_OK;
        }
        HandleRef<Creation> held(creation);
        if (close_handle<Creation>(creation)) {
            held->abandon();
        }
        return DYNAMO_OK;
    });
}

void dynamo_runtime_destroy(dynamo_runtime_t *runtime) {
    status_of([&] {
        if (runtime == nullptr) {
            return DYNAMO_OK;
        }
        HandleRef<Runtime> held(runtime);
        if (close_handle<Runtime>(runtime)) {
            held->abandon();
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_runtime_shutdown(dynamo_runtime_t *runtime, int64_t timeout_ms) {
    return status_of([&] {
        HandleRef<Runtime> held(runtime);
        const std::string trouble = held->shutdown(capi::timeout(timeout_ms));
        if (!trouble.empty()) {
            throw Failure(DYNAMO_ERROR_DEADLINE_EXCEEDED, trouble);
        }
        return DYNAMO_OK;
    });
}

char *dynamo_runtime_statistics(dynamo_runtime_t *runtime) {
    return value_of<char *>(nullptr, [&] {
        return capi::owned::text(json::dump(HandleRef<Runtime>(runtime)->statistics()));
    });
}

char *dynamo_runtime_models(dynamo_runtime_t *runtime) {
    return value_of<char *>(nullptr, [&] {
        return capi::owned::text(json::dump(HandleRef<Runtime>(runtime)->models()));
    });
}

char *dynamo_runtime_metrics(dynamo_runtime_t *runtime) {
    return value_of<char *>(
        nullptr, [&] { return capi::owned::text(HandleRef<Runtime>(runtime)->metrics()); });
}

char *dynamo_runtime_call(dynamo_runtime_t *runtime, const char *name, const char *arguments_json,
                          int64_t timeout_ms) {
    return value_of<char *>(nullptr, [&] {
        const HandleRef<Runtime> held(runtime);
        if (timeout_ms == 0 || timeout_ms < -1) {
            throw Failure(
                DYNAMO_ERROR_INVALID_ARGUMENT,
                "timeout_ms must be -1 (no limit) or positive, not " + std::to_string(timeout_ms));
        }
        return capi::owned::text(held->call(capi::not_null(name, "name"),
                                            capi::text(arguments_json, "arguments_json"),
                                            timeout_ms));
    });
}

const char *dynamo_config_schema(void) {
    try {
        return RuntimeConfig::schema();
    } catch (...) {
        capi::remember_current_exception();
        return nullptr;
    }
}
