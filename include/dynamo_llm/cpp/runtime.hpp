// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config.hpp"
#include "request.hpp"

DYNAMO_LLM_BEGIN

class Creation;
struct Progress;

namespace detail {
inline const std::string &body_json(const std::string &json) {
    return json;
}
inline std::string body_json(const char *json) {
    return json;
}
template <class Body, class = decltype(std::declval<const Body &>().json())>
std::string body_json(const Body &body) {
    return body.json();
}
}  // namespace detail

/** An engine with a loaded model, ready for requests. If it is destroyed, requests in flight continue to their end. */
class Runtime : public Owner<dynamo_runtime_t, dynamo_runtime_destroy> {
  public:
    using Owner::Owner;

    /** Starts an engine, and waits until its model is loaded. Errors: those of dynamo_runtime_create(). */
    [[nodiscard]] static Returned<Runtime> create(const std::string &config_json = "{}") {
        return detail::create<Runtime>(dynamo_runtime_create, config_json);
    }
    /** As above, from a Config. */
    [[nodiscard]] static Returned<Runtime> create(const Config &config) {
        return create(config.json());
    }
    /** Starts an engine without waiting. The function gets the progress, on the library's callback thread; if it
     * throws, the creation is cancelled. Errors: INVALID_ARGUMENT, INVALID_JSON, INVALID_CONFIG, SYSTEM,
     * OUT_OF_MEMORY; the others come from Creation::wait(). */
    [[nodiscard]] static Returned<Creation> create_async(
        const std::string &config_json = "{}",
        std::function<void(const Progress &)> on_progress = nullptr);
    /** As above, from a Config. */
    [[nodiscard]] static Returned<Creation> create_async(
        const Config &config, std::function<void(const Progress &)> on_progress = nullptr);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    Runtime() : Runtime(create()) {}
    /** Same as create(). */
    explicit Runtime(const std::string &config_json) : Runtime(create(config_json)) {}
    /** Same as create(). */
    explicit Runtime(const Config &config) : Runtime(create(config)) {}
#endif

    /** Sends a request. Errors: those of dynamo_request_send(). After an error it may be sent again. */
    Returned<void> send(Request &request) const {
        return detail::done(dynamo_request_send(get(), request.get()));
    }
    /** Creates a request from a Chat, Completion, or Embedding, or from JSON, and sends it. */
    template <class Body>
    [[nodiscard]] Returned<Request> send(const Body &body) const {
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
        Result<Request> request = Request::create(body);
        if (request) {
            if (Result<void> sent = send(*request); !sent) {
                return sent.error();
            }
        }
        return request;
#else
        Request request = Request::create(body);
        send(request);
        return request;
#endif
    }

    /** Sends a Chat, Completion, or Embedding, or JSON, and waits for the whole answer as one response. Errors: those of
     * dynamo_runtime_complete(), such as DEADLINE_EXCEEDED after the timeout. */
    template <class Body, class Timeout = std::chrono::milliseconds>
    [[nodiscard]] Returned<Response> complete(const Body &body, Timeout timeout = forever) const {
        const std::string json = detail::body_json(body);
        return detail::checked<Response>(detail::check_text(json, "body_json"), [&] {
            return detail::owned<Response>(
                dynamo_runtime_complete(get(), json.c_str(), detail::milliseconds(timeout)));
        });
    }

    /** Accepts no more requests, waits for those in flight, cancels the remaining ones, and stops the engine. Errors:
     * those of dynamo_runtime_shutdown(), such as DEADLINE_EXCEEDED if some were cancelled or the engine has not
     * stopped yet. */
    template <class Rep, class Period>
    Returned<void> shutdown(std::chrono::duration<Rep, Period> timeout) const {
        return detail::done(dynamo_runtime_shutdown(get(), detail::milliseconds(timeout)));
    }

    /** Calls a control function of an engine, such as "load_adapter", and waits for its result, which is JSON. Errors:
     * those of dynamo_runtime_call(). */
    template <class Time = std::chrono::milliseconds>
    Returned<std::string> call(const std::string &name, const Json &arguments = Json::raw("{}"),
                               Time timeout = forever) const {
        return detail::owned_text(dynamo_runtime_call(get(), name.c_str(), arguments.text().c_str(),
                                                      detail::milliseconds(timeout)));
    }

    /** Returns counters as JSON, see dynamo_runtime_statistics(). */
    Returned<std::string> statistics() const {
        return detail::owned_text(dynamo_runtime_statistics(get()));
    }
    /** Returns the models as JSON, see dynamo_runtime_models(). */
    Returned<std::string> models() const {
        return detail::owned_text(dynamo_runtime_models(get()));
    }
    /** Returns metrics in Prometheus' text format. */
    Returned<std::string> metrics() const {
        return detail::owned_text(dynamo_runtime_metrics(get()));
    }
};

DYNAMO_LLM_END
