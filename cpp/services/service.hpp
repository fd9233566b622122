// SPDX-License-Identifier: Apache-2.0
// Implements an object of the library with an engine in Python: each call is a request to the engine.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "runtime/body.hpp"
#include "runtime/config.hpp"
#include "stream/response.hpp"

namespace dynamo {

class Runtime;

class Service {
  public:
    // Returns the configuration of a runtime for an engine class, "module:Class". The settings become its
    // "options", except for "python", which becomes a key of the runtime. `what` names the object in
    // messages. Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static RuntimeConfig configure(const char *engine_class, const char *what,
                                   std::string_view settings);

    // Starts the engine and waits until it runs. `what` replaces the engine's name in errors, and must outlive
    // the service. Throws Failure.
    Service(const char *what, const RuntimeConfig &config);
    // Stops the engine. Waits for it unless this thread must not wait (see base/wait_check.hpp).
    ~Service();
    Service(const Service &) = delete;
    Service &operator=(const Service &) = delete;

    // Throws Failure with INVALID_STATE if this thread must not wait for the engine. Functions that wait check
    // this themselves. Call it explicitly before locking a mutex that another thread holds while it waits.
    void require_may_wait() const;

    // Returns what the engine reported about itself. Throws Failure.
    json::OrderedJson info() const;

    // ask() and call() wait for the answer, may be called from any thread, and throw Failure.
    // Sends a body and returns the whole answer.
    std::shared_ptr<Response> ask(Body body) const;
    // Sends a command and returns the answer; each is one JSON payload.
    std::string call(std::string_view command) const;

    // Sends a command without waiting. The library's callback thread calls `done` exactly once, with the answer or
    // the error; `done` must not throw. post() throws Failure if it could not send the command.
    using Done = std::function<void(const Error *error, const std::string &answer)>;
    void post(std::string_view command, Done done) const;

  private:
    const char *const what_;
    std::shared_ptr<Runtime> runtime_;
};

}  // namespace dynamo
