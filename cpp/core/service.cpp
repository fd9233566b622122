// SPDX-License-Identifier: Apache-2.0
#include "core/service.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/log.hpp"
#include "core/request.hpp"
#include "core/runtime.hpp"

namespace dynamo {
namespace {

// Calls a function whose errors are to name the object, and not the engine that it is made of.
template <class Function>
auto named(const char *what, Function function) -> decltype(function()) {
    try {
        return function();
    } catch (const Failure &failure) {
        Error error = failure.error();
        if (!error.engine.empty()) {
            error.engine = what;
        }
        throw Failure(std::move(error));
    }
}

std::string item_of(const Response &response) {
    if (response.items == nullptr || response.items->size() != 1) {
        throw Failure(DYNAMO_ERROR_INTERNAL, "a command had no answer");
    }
    return response.items->front().bytes;
}

Body command_body(std::string_view command) {
    Body body = Body::of_data(DYNAMO_DATA_JSON, command);
    body.stream = false;  // the answer comes whole, and no bound of a stream applies
    return body;
}

// A command on its way.
struct Posted {
    const char *what;
    Service::Done done;
    std::shared_ptr<Request> request;
    std::string answer;
};

void on_event(void *user, dynamo_request_t *, dynamo_response_t *response, std::int32_t status) {
    auto *const posted = static_cast<Posted *>(user);
    if (response != nullptr) {
        {
            const Held<Response> held(response);
            if (held->items != nullptr && !held->items->empty()) {
                posted->answer = held->items->front().bytes;
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
        error.engine = posted->what;
    }
    posted->done(&error, {});
}

void release(void *user) {
    delete static_cast<Posted *>(user);
}

}  // namespace

Config Service::configure(const char *engine_class, const char *what, std::string_view settings) {
    json::Json options =
        json::parse_object(json::without_bom(settings), what, DYNAMO_ERROR_INVALID_CONFIG);
    json::Json config = {{"engine", engine_class}};
    if (const auto python = options.find("python"); python != options.end()) {
        config["python"] = *python;
        options.erase(python);
    }
    config["options"] = std::move(options);
    return Config::parse(json::dump(config));
}

Service::Service(const char *what, const Config &config) : what_(what) {
    named(what_, [&] { runtime_ = Runtime::create(config); });
}

Service::~Service() {
    try {
        runtime_->abandon();
    } catch (const std::exception &error) {
        log::write(DYNAMO_LOG_ERROR, (std::string("dynamo_llm.") + what_).c_str(), error.what());
    }
}

json::OrderedJson Service::info() const {
    return named(what_, [&] { return runtime_->model_for(Body()).engine().describe(); });
}

std::shared_ptr<Response> Service::ask(Body body) const {
    return named(what_, [&] {
        const auto request = std::make_shared<Request>(std::move(body));
        request->send(runtime_);
        std::shared_ptr<Response> response;
        if (request->take(std::nullopt, response) != DYNAMO_OK) {
            throw Failure(DYNAMO_ERROR_INTERNAL, "the engine ended without an answer");
        }
        return response;
    });
}

std::string Service::call(std::string_view command) const {
    return item_of(*ask(command_body(command)));
}

void Service::post(std::string_view command, Done done) const {
    auto posted = std::make_unique<Posted>();
    posted->what = what_;
    posted->done = std::move(done);
    const auto request = std::make_shared<Request>(command_body(command));
    posted->request = request;
    request->set_callback(on_event, posted.get(), release);
    posted.release();  // the request's, which releases it after its end, or when it is abandoned
    try {
        named(what_, [&] { request->send(runtime_); });
    } catch (...) {
        request->abandon();
        throw;
    }
}

}  // namespace dynamo
