// SPDX-License-Identifier: Apache-2.0
// Implements an object of the library with an engine in Python: each call is a request to the engine.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "base/json.hpp"
#include "embed/bridge.h"
#include "runtime/body.hpp"
#include "stream/response.hpp"

namespace dynamo {

class Runtime;

class Service {
  public:
    // Starts an engine in Python and waits until it runs.
    //   name          replaces the engine's name in errors: "router"
    //   engine_class  "module:Class"
    //   config_json   becomes the "options" of the engine, which checks them
    // Both names must outlive the service. Throws Failure.
    Service(const char *name, const char *engine_class, const char *config_json);
    // Stops the engine. Waits for it unless this thread must not wait (see base/wait_check.hpp).
    ~Service();
    Service(const Service &) = delete;
    Service &operator=(const Service &) = delete;

    // Throws Failure with INVALID_STATE if this thread must not wait for the engine. Functions that wait check
    // this themselves. Call it explicitly before locking a mutex that another thread holds while it waits.
    void require_may_wait() const;

    // Returns what the engine reported about itself when it started.
    json::OrderedJson description() const;

    // ask() and call() wait for the answer, may be called from any thread, and throw Failure.
    // Sends a body and returns the whole answer.
    std::shared_ptr<Response> ask(Body body) const;
    // Sends a command, one JSON payload, and returns the answer, which is another.
    std::string call(std::string_view command) const;
    // Sends the command {name: arguments}.
    std::string call(const char *name, json::Json arguments) const;

    // Calls a router, and returns the workers that it selected.
    dynamo_selection_t call(const dynamo_router_call &call) const;

    // Sends a command without waiting. The library's callback thread calls `done` exactly once, with the answer or
    // the error; `done` must not throw. post() throws Failure if it could not send the command.
    using Done = std::function<void(const Error *error, const std::string &answer)>;
    void post(std::string_view command, Done done) const;

  private:
    const char *const name_;
    std::shared_ptr<Runtime> runtime_;
};

}  // namespace dynamo
