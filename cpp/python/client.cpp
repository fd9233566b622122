// SPDX-License-Identifier: Apache-2.0
#include "python/client.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <chrono>
#include <cstdint>
#include <dynamo_llm.hpp>
#include <memory>
#include <string>
#include <utility>

#include "python/gil.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using std::chrono::milliseconds;

namespace dynamo::python {
namespace {

// How long a main thread waits before it looks for Ctrl-C again. What arrives ends the wait at once.
constexpr milliseconds signal_interval{50};

// The wrapper's objects, given up without the GIL: that may wait for an engine, which may need it.
template <class Object>
struct Held {
    explicit Held(Object taken) : object(std::move(taken)) {}
    Held(const Held &) = delete;
    Held &operator=(const Held &) = delete;
    ~Held() {
        const Released released;
        object = Object(nullptr);
    }

    Object object;
};

using Runtime = Held<dynamo_llm::Runtime>;
using Request = Held<dynamo_llm::Request>;
using dynamo_llm::Response;

// As dynamo_llm.errors has it. Called with the GIL.
void raise(const dynamo_llm::Error &error) {
    const nb::tuple arguments = nb::make_tuple(error.status(), error.message(), error.json());
    const nb::object exception =
        nb::steal(call_to_the_end("dynamo_llm.errors", "error_of", arguments.ptr()));
    if (exception.is_valid()) {  // else Python's error is set already
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(exception.ptr())), exception.ptr());
    }
}

void translate(const std::exception_ptr &pointer, void *) {
    try {
        std::rethrow_exception(pointer);
    } catch (const dynamo_llm::Error &error) {
        try {
            raise(error);
        } catch (nb::python_error &instead) {
            instead.restore();
        }
    }
}

bool is_main_thread() {
    static const unsigned long main_thread = nb::cast<unsigned long>(
        nb::module_::import_("threading").attr("main_thread")().attr("ident"));
    return PyThread_get_thread_ident() == main_thread;
}

// Python's -1 is for ever.
milliseconds time_of(std::int64_t timeout_ms) {
    return timeout_ms < 0 ? dynamo_llm::forever : milliseconds(timeout_ms);
}

// Waits without the GIL. In the main thread signal handlers run meanwhile; if one raises, as Ctrl-C
// does, that ends the wait and nothing is lost.
dynamo_llm::Received next(const Request &request, milliseconds timeout) {
    const bool has_signals = is_main_thread();
    const auto start = std::chrono::steady_clock::now();
    while (true) {
        milliseconds wait = timeout;
        bool is_last = true;
        if (has_signals) {
            const auto passed =
                std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
            const milliseconds left = timeout - passed;
            is_last = left <= signal_interval;
            wait = is_last ? std::max(left, milliseconds(0)) : signal_interval;
        }
        dynamo_llm::Received received;
        {
            const Released released;
            received = request.object.next(wait);
            if (received.status < 0) {
                throw dynamo_llm::Error::last();
            }
        }
        if (!received.is_pending()) {
            return received;
        }
        if (has_signals && PyErr_CheckSignals() != 0) {
            throw nb::python_error();
        }
        if (is_last) {
            return received;
        }
    }
}

nb::object optional_text(std::string_view text) {
    return text.empty() ? nb::none() : nb::object(nb::str(text.data(), text.size()));
}

}  // namespace

void bind_client(nb::module_ &m) {
    nb::register_exception_translator(translate);
    is_main_thread();

    nb::class_<dynamo_llm::Usage>(m, "Usage", "Token counts of a request.")
        .def_ro("prompt_tokens", &dynamo_llm::Usage::prompt_tokens)
        .def_ro("completion_tokens", &dynamo_llm::Usage::completion_tokens)
        .def_ro("cached_tokens", &dynamo_llm::Usage::cached_tokens,
                "Part of prompt_tokens that came from a prefix cache.")
        .def(
            "json",
            [](const dynamo_llm::Usage &usage) {
                nb::dict counts;
                counts["prompt_tokens"] = usage.prompt_tokens;
                counts["completion_tokens"] = usage.completion_tokens;
                counts["cached_tokens"] = usage.cached_tokens;
                return counts;
            },
            nb::sig("def json(self) -> dict[str, int]"), "The counts as a dictionary.")
        .def("__repr__", [](const dynamo_llm::Usage &usage) {
            return "Usage(prompt_tokens=" + std::to_string(usage.prompt_tokens) +
                   ", completion_tokens=" + std::to_string(usage.completion_tokens) +
                   ", cached_tokens=" + std::to_string(usage.cached_tokens) + ")";
        });

    const auto seconds = [](const std::optional<std::chrono::microseconds> &time) {
        return time ? nb::object(nb::float_(static_cast<double>(time->count()) * 1e-6))
                    : nb::none();
    };
    nb::class_<dynamo_llm::Timing>(
        m, "Timing", "When what happened to a request, in seconds since it was sent; else None.")
        .def_prop_ro(
            "queue", [seconds](const dynamo_llm::Timing &self) { return seconds(self.queue); },
            nb::sig("def queue(self) -> float | None"),
            "The engine got it: before, it waited for a place.")
        .def_prop_ro(
            "first_token",
            [seconds](const dynamo_llm::Timing &self) { return seconds(self.first_token); },
            nb::sig("def first_token(self) -> float | None"),
            "The engine pushed the first of the answer (TTFT).")
        .def_prop_ro(
            "total", [seconds](const dynamo_llm::Timing &self) { return seconds(self.total); },
            nb::sig("def total(self) -> float | None"), "It ended.")
        .def("__repr__", [seconds](const dynamo_llm::Timing &self) {
            return nb::str("Timing(queue={!r}, first_token={!r}, total={!r})")
                .format(seconds(self.queue), seconds(self.first_token), seconds(self.total));
        });

    nb::class_<Response>(m, "Response",
                         "Everything that had come of one choice when it was received. Immutable.")
        .def_prop_ro(
            "text", [](const Response &self) { return self.text(); },
            "The text, \"\" if there is none. It never splits a character.")
        .def_prop_ro(
            "token_ids",
            [](const Response &self) {
                nb::list ids;
                for (const std::uint32_t id : self.token_ids()) {
                    ids.append(id);
                }
                return ids;
            },
            nb::sig("def token_ids(self) -> list[int]"),
            "The token ids; empty if the engine gives none.")
        .def_prop_ro("index", &Response::index, "Number of the choice, from 0.")
        .def_prop_ro(
            "finish_reason",
            [](const Response &self) { return optional_text(self.finish_reason()); },
            nb::sig("def finish_reason(self) -> str | None"),
            "\"stop\", \"length\", ... in the last response of a choice, else None.")
        .def_prop_ro(
            "usage",
            [](const Response &self) {
                const auto usage = self.usage();
                return usage ? nb::cast(*usage) : nb::none();
            },
            nb::sig("def usage(self) -> Usage | None"),
            "Token counts, in the last response, if the engine counts.")
        .def_prop_ro(
            "timing",
            [](const Response &self) {
                const auto timing = self.timing();
                return timing ? nb::cast(*timing) : nb::none();
            },
            nb::sig("def timing(self) -> Timing | None"),
            "When what happened to the request, in the last response of all.")
        .def(
            "json",
            [](const Response &self) {
                const nb::tuple arguments = nb::make_tuple(nb::str(self.json().data()));
                nb::object value = nb::steal(call_to_the_end("json", "loads", arguments.ptr()));
                if (!value.is_valid()) {
                    nb::raise_python_error();
                }
                return value;
            },
            nb::sig("def json(self) -> dict[str, typing.Any]"),
            "OpenAI's object: a chat.completion.chunk, text_completion, ...")
        .def("__repr__", [](const Response &self) {
            return nb::str("Response(text={!r}, finish_reason={!r})")
                .format(self.text(), optional_text(self.finish_reason()));
        });

    nb::class_<Request>(m, "Request")
        .def(
            "__init__",
            [](Request *self, const std::string &body_json) {
                new (self) Request(dynamo_llm::Request(body_json));
            },
            "body_json"_a)
        .def(
            "set_deadlines",
            [](Request &self, std::int64_t first_token_ms, std::int64_t total_ms) {
                self.object.set_deadlines(time_of(first_token_ms), time_of(total_ms));
            },
            "first_token_ms"_a, "total_ms"_a,
            "Before sending: limits in milliseconds, -1 for none.")
        .def(
            "receive",
            [](const Request &self, std::int64_t timeout_ms) {
                dynamo_llm::Received received = next(self, time_of(timeout_ms));
                nb::object response = nb::none();
                if (received) {
                    response = nb::cast(std::move(received.response));
                }
                return nb::make_tuple(received.status, response);
            },
            "timeout_ms"_a,
            nb::sig("def receive(self, timeout_ms: int) -> tuple[int, Response | None]"),
            "Wait, without the GIL, for more: (OK, response), (PENDING, None) or (END, None).")
        .def(
            "cancel",
            [](const Request &self) {
                const Released released;
                self.object.cancel();
            },
            "End the request, from any thread, at any time; receiving then raises CancelledError.")
        .def(
            "fileno", [](const Request &self) { return self.object.fd(); },
            "A descriptor that is readable while there is something to receive. It lives as long "
            "as "
            "the request; only wait on it.")
        .def_prop_ro(
            "status", [](const Request &self) { return self.object.status(); },
            "DYNAMO_PENDING (2) before the end, then DYNAMO_END (1) or the error's status.")
        .def_prop_ro(
            "timing", [](const Request &self) { return self.object.timing(); },
            "When what happened to it, so far.")
        .def_prop_ro(
            "id", [](const Request &self) { return self.object.id(); },
            "\"req-\" and 16 hexadecimal digits: what logs and errors carry.");

    nb::class_<Runtime>(m, "Runtime")
        .def(
            "__init__",
            [](Runtime *self, const std::string &config_json) {
                dynamo_llm::Runtime runtime(nullptr);
                {
                    const Released released;
                    runtime = dynamo_llm::Runtime(config_json);
                }
                new (self) Runtime(std::move(runtime));
            },
            "config_json"_a)
        .def(
            "send",
            [](const Runtime &self, Request &request) {
                const Released released;
                self.object.send(request.object);
            },
            "request"_a, "Hand a request over. Does not wait for the engine.")
        .def(
            "shutdown",
            [](const Runtime &self, std::int64_t timeout_ms) {
                const Released released;
                self.object.shutdown(time_of(timeout_ms));
            },
            "timeout_ms"_a, "Wait for requests in flight, cancel what is left, stop the engine.")
        .def(
            "statistics", [](const Runtime &self) { return self.object.statistics(); },
            "Counters as JSON.")
        .def(
            "models", [](const Runtime &self) { return self.object.models(); },
            "What it serves, as JSON.")
        .def(
            "metrics",
            [](const Runtime &self) {
                const Released released;
                return self.object.metrics();
            },
            "Metrics in Prometheus' text format.");
}

}  // namespace dynamo::python
