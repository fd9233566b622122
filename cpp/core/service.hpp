// SPDX-License-Identifier: Apache-2.0
// Work that an engine in Python does for an object of the library: each call is a request to it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/body.hpp"
#include "core/config.hpp"
#include "core/json.hpp"
#include "core/response.hpp"

namespace dynamo {

class Runtime;

class Service {
  public:
    // The configuration of a runtime with an engine class, "module:Class". The settings are its
    // "options", without their member "python", which is the runtime's. `what` names the object in
    // messages. Throws Failure with INVALID_JSON or INVALID_CONFIG.
    static Config configure(const char *engine_class, const char *what, std::string_view settings);

    // Starts the engine, and waits for that. `what` outlives it; it stands in errors in place of the
    // engine's name. Throws Failure.
    Service(const char *what, const Config &config);
    // Stops the engine; waits for it.
    ~Service();
    Service(const Service &) = delete;
    Service &operator=(const Service &) = delete;

    // What the engine said of itself. Throws Failure.
    json::OrderedJson info() const;

    // Each of these waits for the answer, from any thread, and throws Failure.
    // The whole answer to a body.
    std::shared_ptr<Response> ask(Body body) const;
    // The answer to a command, one item of JSON each.
    std::string call(std::string_view command) const;

    // Does not wait: `done` is called from the library's callback thread, once, with the answer, or
    // with what failed. It does not throw. Throws Failure if the command did not get off.
    using Done = std::function<void(const Error *error, const std::string &answer)>;
    void post(std::string_view command, Done done) const;

  private:
    const char *const what_;
    std::shared_ptr<Runtime> runtime_;
};

}  // namespace dynamo
