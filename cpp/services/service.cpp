// SPDX-License-Identifier: Apache-2.0
#include "services/service.hpp"

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "base/wait_check.hpp"
#include "embed/python.hpp"
#include "engines/native.hpp"
#include "runtime/request.hpp"
#include "runtime/runtime.hpp"

namespace dynamo {
namespace {

// Calls a function, and makes its errors name the object instead of the engine that implements it.
template <class Function>
auto named(const char *name, Function function) -> decltype(function()) {
    try {
        return function();
    } catch (const Failure &failure) {
        Error error = failure.error();
        if (!error.engine.empty()) {
            error.engine = name;
        }
        throw Failure(std::move(error));
    }
}

std::string item_of(const Response &response) {
    if (response.payloads == nullptr || response.payloads->size() != 1) {
        throw Failure(DYNAMO_ERROR_INTERNAL, "a command had no answer");
    }
    return response.payloads->front().bytes;
}

Body command_body(std::string_view command) {
    Body body = Body::raw(DYNAMO_DATA_JSON, command);
    body.stream = false;  // one whole answer, so the stream's capacity does not limit it
    return body;
}

// A command whose answer is pending.
struct Posted {
    const char *name;
    Service::Done done;
    std::shared_ptr<Request> request;
    std::string answer;
};

void on_event(void *user, dynamo_request_t *, dynamo_response_t *response, std::int32_t status) {
    auto *const posted = static_cast<Posted *>(user);
    if (response != nullptr) {
        {
            const HandleRef<Response> held(response);
            if (held->payloads != nullptr && !held->payloads->empty()) {
                posted->answer = held->payloads->front().bytes;
            }
        }
        close_handle<Response>(response);
        return;
    }
    if (status == DYNAMO_END) {
        posted->done(nullptr, posted->answer);
        return;
    }
    Error error = posted->request->failure();
    if (!error.engine.empty()) {
        error.engine = posted->name;
    }
    posted->done(&error, {});
}

void release(void *user) {
    delete static_cast<Posted *>(user);
}

// Returns the configuration of the runtime that runs the engine. The engine gets all of the object's settings, and
// the runtime those that it reads itself. Throws Failure with INVALID_JSON or INVALID_CONFIG.
RuntimeConfig config_of(const char *engine_class, std::string_view settings) {
    json::Json options = json::parse_object(json::without_bom(settings), "configuration",
                                            DYNAMO_ERROR_INVALID_CONFIG);
    json::Json config = {{"engine", engine_class}};
    for (const char *key : {"python", "trust_request_chat_template", "templates"}) {
        if (const auto found = options.find(key); found != options.end()) {
            config[key] = *found;
        }
    }
    config["options"] = std::move(options);
    return RuntimeConfig::parse(json::dump(config));
}

// Blocks a thread whose call failed because the process exits, for the time that docs/embedding.md documents: in
// C++ the error would become an exception that few programs catch.
void stay_if_exiting(const Error &error) {
    if (error.status == DYNAMO_ERROR_CLOSED &&
        error.detail.find("\"exiting\"") != std::string::npos) {
        std::this_thread::sleep_for(std::chrono::seconds(5));
    }
}

}  // namespace

Service::Service(const char *name, const char *engine_class, const char *config_json)
    : name_(name) {
    RuntimeConfig config = config_of(engine_class, config_json);
    engines::register_native();
    ModelConfig &model = config.models.front();
    model.engine = embed::engine_from_python(model);
    const std::string call = std::string("dynamo_") + name + "_create()";
    named(name, [&] { runtime_ = Runtime::create(config, call.c_str()); });
}

Service::~Service() {
    try {
        runtime_->abandon();
    } catch (const std::exception &error) {
        log::write(DYNAMO_LOG_ERROR, (std::string("dynamo_llm.") + name_).c_str(), error.what());
    }
}

void Service::require_may_wait() const {
    const std::string call = std::string("a function of dynamo_") + name_ + "_t";
    wait_check::require_allowed(call.c_str(), true);
}

json::OrderedJson Service::description() const {
    return runtime_->model_for(Body()).description();
}

std::shared_ptr<Response> Service::ask(Body body) const {
    require_may_wait();
    return named(name_, [&] {
        const auto request = std::make_shared<Request>(std::move(body));
        request->send(runtime_);
        std::shared_ptr<Response> response;
        try {
            if (request->take(std::nullopt, response) != DYNAMO_OK) {
                throw Failure(DYNAMO_ERROR_INTERNAL, "the engine ended without an answer");
            }
        } catch (const Failure &failure) {
            stay_if_exiting(failure.error());
            throw;
        }
        return response;
    });
}

std::string Service::call(std::string_view command) const {
    return item_of(*ask(command_body(command)));
}

std::string Service::call(const char *name, json::Json arguments) const {
    return call(json::dump(json::Json{{name, std::move(arguments)}}));
}

dynamo_selection_t Service::call(const dynamo_router_call &call) const {
    require_may_wait();
    return named(name_,
                 [&] { return embed::call_router(runtime_->model_for(Body()).engine(), call); });
}

void Service::post(std::string_view command, Done done) const {
    auto posted = std::make_unique<Posted>();
    posted->name = name_;
    posted->done = std::move(done);
    const auto request = std::make_shared<Request>(command_body(command));
    posted->request = request;
    request->set_callback(on_event, posted.get(), release);
    posted.release();  // owned by the request, which releases it when it ends or is abandoned
    try {
        named(name_, [&] { request->send(runtime_); });
    } catch (...) {
        request->abandon();
        throw;
    }
}

}  // namespace dynamo
