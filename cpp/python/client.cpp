// SPDX-License-Identifier: Apache-2.0
#include "python/client.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>

#include <chrono>
#include <cstdint>
#include <dynamo_llm.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "python/cluster.hpp"
#include "python/gil.hpp"
#include "python/held.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using std::chrono::milliseconds;

namespace dynamo::python {
namespace {

// How often a waiting main thread checks for Ctrl-C. A response ends the wait at once.
constexpr milliseconds signal_interval{50};

using Runtime = Held<dynamo_llm::Runtime>;
using Request = Held<dynamo_llm::Request>;
using Tokenizer = Held<dynamo_llm::Tokenizer>;
using Detokenizer = Held<dynamo_llm::Detokenizer>;
using dynamo_llm::Response;

// Sets the Python exception that dynamo_llm.errors defines for an error. Requires the GIL.
void raise(const dynamo_llm::Error &error) {
    const nb::tuple arguments = nb::make_tuple(error.status(), error.message(), error.json());
    const nb::object exception =
        nb::steal(call_to_the_end("dynamo_llm.errors", "error_of", arguments.ptr()));
    if (exception.is_valid()) {  // otherwise a Python exception is already set
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

// Converts a timeout from Python, where -1 means no timeout.
milliseconds time_of(std::int64_t timeout_ms) {
    return timeout_ms < 0 ? dynamo_llm::forever : milliseconds(timeout_ms);
}

// Waits without the GIL. In the main thread signal handlers run meanwhile. If one of them raises, as Ctrl-C
// does, the wait ends and no response is lost.
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

nb::list list_of(dynamo_llm::TokenIds ids) {
    nb::list list;
    for (const std::uint32_t id : ids) {
        list.append(id);
    }
    return list;
}

// Reads token IDs from the bytes of an array.array("I").
dynamo_llm::TokenIds ids_of(const nb::bytes &array) {
    return {static_cast<const std::uint32_t *>(array.data()), array.size() / sizeof(std::uint32_t)};
}

nb::object optional_text(std::string_view text) {
    return text.empty() ? nb::none() : nb::object(nb::str(text.data(), text.size()));
}

void bind_tokenizer(nb::module_ &m) {
    nb::class_<Detokenizer>(m, "Detokenizer")
        .def(
            "add",
            [](const Detokenizer &self, const nb::bytes &ids) {
                const Released released;
                return self.object.add(ids_of(ids));
            },
            "ids"_a, "What the ids, of an array of unsigned int, add to the text.")
        .def(
            "finish",
            [](const Detokenizer &self) {
                const Released released;
                return self.object.finish();
            },
            "The rest of the text.");

    nb::class_<Tokenizer>(m, "Tokenizer")
        .def(
            "__init__",
            [](Tokenizer *self, const std::string &config_json) {
                dynamo_llm::Tokenizer tokenizer(nullptr);
                {
                    const Released released;
                    tokenizer = dynamo_llm::Tokenizer(config_json);
                }
                new (self) Tokenizer(std::move(tokenizer));
            },
            "config_json"_a)
        .def(
            "encode",
            [](const Tokenizer &self, const nb::bytes &text, bool add_special_tokens) {
                std::vector<std::uint32_t> ids;
                {
                    const Released released;
                    ids = self.object.encode({text.c_str(), text.size()}, add_special_tokens);
                }
                return list_of({ids.data(), ids.size()});
            },
            "text"_a, "add_special_tokens"_a,
            nb::sig("def encode(self, text: bytes, add_special_tokens: bool) -> list[int]"),
            "Token ids of a text in UTF-8.")
        .def(
            "decode",
            [](const Tokenizer &self, const nb::bytes &ids, bool skip_special_tokens) {
                const Released released;
                return self.object.decode(ids_of(ids), skip_special_tokens);
            },
            "ids"_a, "skip_special_tokens"_a, "Text of the ids, of an array of unsigned int.")
        .def(
            "apply_template",
            [](const Tokenizer &self, const std::string &chat_json) {
                const Released released;
                return self.object.apply_template(chat_json);
            },
            "chat_json"_a, "The prompt that the chat template makes of a body.")
        .def(
            "info", [](const Tokenizer &self) { return self.object.info(); },
            "What there is to know, as JSON.")
        .def(
            "detokenizer",
            [](const Tokenizer &self, bool skip_special_tokens) {
                return std::make_unique<Detokenizer>(self.object.detokenizer(skip_special_tokens));
            },
            "skip_special_tokens"_a, "Begin a text that comes token by token.")
        .def("close", &Tokenizer::close, "Give the tokenizer up; detokenizers go on.");
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
            "The engine began to work on it: before, it waited for a place, or in the engine's "
            "queue.")
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
            "token_ids", [](const Response &self) { return list_of(self.token_ids()); },
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
        .def_prop_ro(
            "items",
            [](const Response &self) {
                nb::list items;
                for (std::size_t i = 0; i < self.item_count(); ++i) {
                    const dynamo_llm::Item item = self.item(i);
                    const nb::bytes bytes(item.bytes.data(), item.bytes.size());
                    if (!item.is_json) {
                        items.append(bytes);
                        continue;
                    }
                    const nb::tuple arguments = nb::make_tuple(bytes);
                    nb::object value = nb::steal(call_to_the_end("json", "loads", arguments.ptr()));
                    if (!value.is_valid()) {
                        nb::raise_python_error();
                    }
                    items.append(value);
                }
                return items;
            },
            nb::sig("def items(self) -> list[typing.Any]"),
            "Items of the answer to a request of data: bytes, or what the JSON says.")
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
        .def_static(
            "of_data",
            [](const nb::bytes &data, bool is_json) {
                const std::string_view bytes(data.c_str(), data.size());
                return std::make_unique<Request>(is_json ? dynamo_llm::Request::of_json(bytes)
                                                         : dynamo_llm::Request::of_bytes(bytes));
            },
            "data"_a, "is_json"_a, "A request of data: bytes, or a JSON text.")
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
            "models",
            [](const Runtime &self) {
                const Released released;  // the call may wait for an engine
                return self.object.models();
            },
            "What it serves, as JSON.")
        .def(
            "metrics",
            [](const Runtime &self) {
                const Released released;
                return self.object.metrics();
            },
            "Metrics in Prometheus' text format.");
    bind_tokenizer(m);
    bind_cluster(m);
}

}  // namespace dynamo::python
