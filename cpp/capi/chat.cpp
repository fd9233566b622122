// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat.hpp"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/failed_create.hpp"
#include "base/platform.hpp"
#include "base/wait_check.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "runtime/request.hpp"
#include "runtime/runtime.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

namespace {

// Runs a body that changes a chat.
template <class Body>
std::int32_t change(dynamo_chat_t *chat, Body body) {
    return status_of([&] {
        HandleRef<Chat> held(chat);
        body(*held);
        return DYNAMO_OK;
    });
}

// Cancels a request that its caller gives up.
struct Abandon {
    Request &request;
    ~Abandon() { request.abandon(); }
};

// Runs a body that makes the body of a request, sends it, and waits for the whole answer. A NULL response later reports
// the error again, as that of a create function does.
template <class MakeBody>
dynamo_response_t *complete(dynamo_runtime_t *runtime, std::int64_t timeout_ms, const char *call,
                            MakeBody make_body) {
    auto *const whole = value_of<dynamo_response_t *>(nullptr, [&] {
        HandleRef<Runtime> to(runtime);
        if (timeout_ms == 0 || timeout_ms < -1) {
            throw Failure(
                DYNAMO_ERROR_INVALID_ARGUMENT,
                "timeout_ms must be -1 (no limit) or positive, not " + std::to_string(timeout_ms));
        }
        const auto request = std::make_shared<Request>(make_body());
        handles::Reservation place;
        wait_check::require_allowed(call, false);
        request->set_deadlines(-1, timeout_ms);
        const Abandon abandon{*request};
        request->send(to->shared_from_this());
        std::shared_ptr<Response> response;
        if (request->take(std::nullopt, response) != DYNAMO_OK) {
            throw Failure(DYNAMO_ERROR_ENGINE_FAILED, "the engine ended without an answer",
                          "engine");
        }
        return open_handle(place, std::move(response));
    });
    if (whole != nullptr) {
        failed_create::forget(HandleKind::response);
    } else if (!platform::is_forked_child()) {
        failed_create::remember_last(HandleKind::response);
    }
    return whole;
}

}  // namespace

dynamo_chat_t *dynamo_chat_create(void) {
    return created<Chat>([] { return open_handle(std::make_shared<Chat>()); });
}

void dynamo_chat_destroy(dynamo_chat_t *chat) {
    status_of([&] {
        if (chat != nullptr && !close_handle<Chat>(chat)) {
            const HandleRef<Chat> reject_stale(chat);
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_chat_add_message(dynamo_chat_t *chat, const char *role, const char *content) {
    return change(chat, [&](Chat &held) { held.add_message(role, content); });
}

int32_t dynamo_chat_add_message_json(dynamo_chat_t *chat, const char *message_json) {
    return change(chat, [&](Chat &held) { held.add_message_json(message_json); });
}

int32_t dynamo_chat_add_media(dynamo_chat_t *chat, const char *type, const void *data,
                              size_t size) {
    return change(chat, [&](Chat &to) { to.add_media(type, data, size); });
}

int32_t dynamo_chat_add_answer(dynamo_chat_t *chat, const dynamo_response_t *response) {
    return change(chat, [&](Chat &held) { held.add_answer(*HandleRef<Response>(response)); });
}

int32_t dynamo_chat_add_tool_result(dynamo_chat_t *chat, const char *tool_call_id,
                                    const char *content) {
    return change(chat, [&](Chat &held) { held.add_tool_result(tool_call_id, content); });
}

int32_t dynamo_chat_add_tool(dynamo_chat_t *chat, const char *name, const char *description,
                             const char *parameters_json) {
    return change(chat, [&](Chat &held) { held.add_tool(name, description, parameters_json); });
}

int32_t dynamo_chat_add_parameter(dynamo_chat_t *chat, const char *tool, const char *name,
                                  const char *type, const char *description, int32_t is_required) {
    return change(chat, [&](Chat &held) {
        held.add_parameter(tool, name, type, description, is_required != 0);
    });
}

int32_t dynamo_chat_set_string(dynamo_chat_t *chat, const char *key, const char *value) {
    return change(chat, [&](Chat &held) { held.set_string(key, value); });
}

int32_t dynamo_chat_set_number(dynamo_chat_t *chat, const char *key, double value) {
    return change(chat, [&](Chat &held) { held.set_number(key, value); });
}

int32_t dynamo_chat_set_integer(dynamo_chat_t *chat, const char *key, int64_t value) {
    return change(chat, [&](Chat &held) { held.set_integer(key, value); });
}

int32_t dynamo_chat_set_boolean(dynamo_chat_t *chat, const char *key, int32_t value) {
    return change(chat, [&](Chat &held) { held.set_boolean(key, value != 0); });
}

int32_t dynamo_chat_set_json(dynamo_chat_t *chat, const char *key, const char *value_json) {
    return change(chat, [&](Chat &held) { held.set_json(key, value_json); });
}

char *dynamo_chat_json(dynamo_chat_t *chat) {
    return value_of<char *>(nullptr,
                            [&] { return capi::owned::text(HandleRef<Chat>(chat)->json()); });
}

dynamo_request_t *dynamo_request_create_chat(dynamo_chat_t *chat) {
    return created<Request>([&] {
        const auto request = std::make_shared<Request>(Body::parse(HandleRef<Chat>(chat)->json()));
        dynamo_request_t *const handle = open_handle(request);
        request->set_handle(handle);
        return handle;
    });
}

dynamo_response_t *dynamo_runtime_complete(dynamo_runtime_t *runtime, const char *body_json,
                                           int64_t timeout_ms) {
    return complete(runtime, timeout_ms, "dynamo_runtime_complete()",
                    [&] { return Body::parse_whole(capi::text(body_json, "body_json")); });
}

dynamo_response_t *dynamo_chat_complete(dynamo_runtime_t *runtime, dynamo_chat_t *chat,
                                        int64_t timeout_ms) {
    return complete(runtime, timeout_ms, "dynamo_chat_complete()",
                    [&] { return Body::parse(HandleRef<Chat>(chat)->json(false)); });
}
