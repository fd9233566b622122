// SPDX-License-Identifier: Apache-2.0
// Binds the classes of dynamo_llm.hpp for Python programs. Uses only that public header.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <dynamo_llm.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "python/arguments.hpp"
#include "python/bindings.hpp"
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

// Sets the Python exception that dynamo_llm.errors defines for an error.
void translate(const std::exception_ptr &pointer, void *) {
    try {
        std::rethrow_exception(pointer);
    } catch (const dynamo_llm::Error &error) {
        try {
            const nb::tuple arguments =
                nb::make_tuple(error.status(), error.message(), error.json());
            const nb::object exception =
                nb::steal(call_function("dynamo_llm.errors", "error_of", arguments.ptr()));
            if (exception.is_valid()) {  // otherwise a Python exception is already set
                PyErr_SetObject(exception.type().ptr(), exception.ptr());
            }
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

// Waits without the GIL. In the main thread signal handlers run meanwhile. If one of them raises, as Ctrl-C
// does, the wait ends and no response is lost.
dynamo_llm::Received next(const Request &request, milliseconds timeout) {
    const bool has_signals = is_main_thread();
    const auto start = std::chrono::steady_clock::now();
    while (true) {
        const auto passed =
            std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
        const milliseconds left = std::max(timeout - passed, milliseconds(0));
        const bool is_last = !has_signals || left <= signal_interval;
        dynamo_llm::Received received;
        {
            const Released released;
            received = request.object.next(is_last ? left : signal_interval);
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

// Calls json.loads().
nb::object parse_json(const nb::object &text) {
    const nb::tuple arguments = nb::make_tuple(text);
    nb::object value = nb::steal(call_function("json", "loads", arguments.ptr()));
    if (!value.is_valid()) {
        nb::raise_python_error();
    }
    return value;
}

std::optional<std::string_view> finish_reason_of(const Response &response) {
    const std::string_view reason = response.finish_reason();
    return reason.empty() ? std::nullopt : std::optional(reason);
}

// Returns a class of the module that defines what answers consist of.
nb::object result_class(const char *name) {
    return nb::module_::import_("dynamo_llm.api.result").attr(name);
}

nb::list tool_calls_of(const Response &response) {
    nb::list list;
    for (const dynamo_llm::ToolCall &call : response.tool_calls()) {
        list.append(result_class("ToolCall")(call.id, call.name, call.arguments));
    }
    return list;
}

nb::list logprobs_of(const Response &response) {
    nb::list list;
    for (std::size_t token = 0; token < response.logprob_count(); ++token) {
        const auto make = [](const dynamo_llm::Logprob &one, const nb::list &alternatives) {
            return result_class("Logprob")(one.text, one.logprob, one.token_id, alternatives);
        };
        const dynamo_llm::Logprob one = response.logprob(token);
        nb::list alternatives;
        for (std::size_t i = 0; i < one.alternative_count; ++i) {
            alternatives.append(make(response.alternative(token, i), nb::list()));
        }
        list.append(make(one, alternatives));
    }
    return list;
}

std::optional<double> seconds(const std::optional<std::chrono::microseconds> &time) {
    return time ? std::optional(static_cast<double>(time->count()) * 1e-6) : std::nullopt;
}

void bind_tokenizer(nb::module_ &m) {
    nb::class_<Detokenizer>(m, "Detokenizer")
        .def(
            "add",
            [](const Detokenizer &self, const nb::bytes &ids) {
                return self.object.add(ids_of(ids));
            },
            "ids"_a, without_gil,
            "Returns what token IDs, the bytes of an array of unsigned int, add to the text.")
        .def("finish", Detokenizer::method(&dynamo_llm::Detokenizer::finish), without_gil,
             "Ends the text, and returns what was held back.");

    nb::class_<Tokenizer>(m, "Tokenizer")
        .def(nb::init<const std::string &>(), "config_json"_a, without_gil)
        .def(
            "encode",
            [](const Tokenizer &self, const nb::bytes &text, bool add_special_tokens) {
                return self.object.encode({text.c_str(), text.size()}, add_special_tokens);
            },
            "text"_a, "add_special_tokens"_a, without_gil,
            "Returns the token IDs of a text in UTF-8.")
        .def(
            "decode",
            [](const Tokenizer &self, const nb::bytes &ids, bool skip_special_tokens) {
                return self.object.decode(ids_of(ids), skip_special_tokens);
            },
            "ids"_a, "skip_special_tokens"_a, without_gil,
            "Returns the text of token IDs, the bytes of an array of unsigned int.")
        .def(
            "apply_template",
            [](const Tokenizer &self, const std::string &chat_json) {
                return self.object.apply_template(chat_json);
            },
            "chat_json"_a, without_gil,
            "Returns the prompt that the chat template renders from a body.")
        .def("info", Tokenizer::method(&dynamo_llm::Tokenizer::info),
             "Returns the properties as JSON.")
        .def(
            "detokenizer",
            [](const Tokenizer &self, bool skip_special_tokens) {
                return std::make_unique<Detokenizer>(self.object.detokenizer(skip_special_tokens));
            },
            "skip_special_tokens"_a,
            "Creates a detokenizer, for a text that arrives token by token.")
        .def("close", &Tokenizer::close, "Releases the tokenizer; its detokenizers stay valid.");
}

}  // namespace

void bind_client(nb::module_ &m) {
    nb::register_exception_translator(translate);
    is_main_thread();

    using dynamo_llm::Usage;
    nb::class_<Usage>(m, "Usage", "Token counts of a request.")
        .def_ro("prompt_tokens", &Usage::prompt_tokens)
        .def_ro("completion_tokens", &Usage::completion_tokens)
        .def_ro("cached_tokens", &Usage::cached_tokens,
                "Those of prompt_tokens that came from a prefix cache.")
        .def(
            "json",
            [](const Usage &self) {
                nb::dict counts;
                counts["prompt_tokens"] = self.prompt_tokens;
                counts["completion_tokens"] = self.completion_tokens;
                counts["cached_tokens"] = self.cached_tokens;
                return counts;
            },
            nb::sig("def json(self) -> dict[str, int]"), "Returns the counts as a dictionary.")
        .def("__repr__", [](const Usage &self) {
            return nb::str("Usage(prompt_tokens={}, completion_tokens={}, cached_tokens={})")
                .format(self.prompt_tokens, self.completion_tokens, self.cached_tokens);
        });

    using dynamo_llm::Timing;
    nb::class_<Timing>(
        m, "Timing",
        "Timestamps of a request, in seconds since it was sent; None for what has not happened.")
        .def_prop_ro(
            "queue", [](const Timing &self) { return seconds(self.queue); },
            "The engine began to work on the request. Until then, it waited for a slot, or in the "
            "engine's own queue.")
        .def_prop_ro(
            "first_token", [](const Timing &self) { return seconds(self.first_token); },
            "The engine pushed the first part of the answer (TTFT).")
        .def_prop_ro(
            "total", [](const Timing &self) { return seconds(self.total); }, "The request ended.")
        .def("__repr__", [](const Timing &self) {
            return nb::str("Timing(queue={!r}, first_token={!r}, total={!r})")
                .format(seconds(self.queue), seconds(self.first_token), seconds(self.total));
        });

    nb::class_<Response>(
        m, "Response", "Everything that had arrived of one choice when it was received. Immutable.")
        .def_prop_ro("text", &Response::text,
                     "The text, \"\" if there is none. It never splits a character.")
        .def_prop_ro(
            "token_ids",
            [](const Response &self) -> nb::typed<nb::list, int> {
                nb::list list;
                for (const std::uint32_t id : self.token_ids()) {
                    list.append(id);
                }
                return list;
            },
            "The token IDs; empty if the engine provides none.")
        .def_prop_ro("index", &Response::index, "Number of the choice, from 0.")
        .def_prop_ro("finish_reason", &finish_reason_of,
                     "\"stop\", \"length\", ... in the last response of a choice, otherwise None.")
        .def_prop_ro("reasoning_content", &Response::reasoning,
                     "Reasoning that the engine separated from the text, \"\" if there is none.")
        .def_prop_ro("tool_calls", &tool_calls_of,
                     nb::sig("def tool_calls(self) -> list[dynamo_llm.api.result.ToolCall]"),
                     "Tool calls, complete: all of a choice in its last response.")
        .def_prop_ro("logprobs", &logprobs_of,
                     nb::sig("def logprobs(self) -> list[dynamo_llm.api.result.Logprob]"),
                     "Log-probs of the tokens; empty if the request did not ask for them.")
        .def_prop_ro("usage", &Response::usage,
                     "Token counts, in the last response, if the engine counts.")
        .def_prop_ro("timing", &Response::timing,
                     "Timestamps of the request, in the very last response.")
        .def_prop_ro(
            "items",
            [](const Response &self) {
                nb::list items;
                for (std::size_t i = 0; i < self.item_count(); ++i) {
                    const dynamo_llm::Item item = self.item(i);
                    const nb::bytes bytes(item.bytes.data(), item.bytes.size());
                    items.append(item.is_json ? parse_json(bytes) : nb::object(bytes));
                }
                return items;
            },
            nb::sig("def items(self) -> list[typing.Any]"),
            "Payloads of the answer to a raw request: bytes, or parsed JSON.")
        .def(
            "json", [](const Response &self) { return parse_json(nb::str(self.json().data())); },
            nb::sig("def json(self) -> dict[str, typing.Any]"),
            "Returns OpenAI's object: a chat.completion.chunk, text_completion, ...")
        .def("__repr__", [](const Response &self) {
            return nb::str("Response(text={!r}, finish_reason={!r})")
                .format(self.text(), finish_reason_of(self));
        });

    nb::class_<Request>(m, "Request")
        .def(nb::init<const std::string &>(), "body_json"_a)
        .def_static(
            "of_data",
            [](const nb::bytes &data, bool is_json) {
                const std::string_view bytes(data.c_str(), data.size());
                return std::make_unique<Request>(is_json ? dynamo_llm::Request::of_json(bytes)
                                                         : dynamo_llm::Request::of_bytes(bytes));
            },
            "data"_a, "is_json"_a, "Creates a raw request: bytes, or a JSON text.")
        .def(
            "set_deadlines",
            [](Request &self, std::int64_t first_token_ms, std::int64_t total_ms) {
                self.object.set_deadlines(time_of(first_token_ms), time_of(total_ms));
            },
            "first_token_ms"_a, "total_ms"_a,
            "Sets deadlines in milliseconds, -1 for none. Call it before sending.")
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
            "Waits, without the GIL, for more of the answer. Returns (OK, response), (PENDING, "
            "None), or (END, None).")
        .def("cancel", Request::method(&dynamo_llm::Request::cancel), without_gil,
             "Ends the request. Any thread may call this at any time. Receiving then raises "
             "CancelledError.")
        .def(
            "fileno", Request::method(&dynamo_llm::Request::fd),
            "Returns a file descriptor that is readable while there is something to receive. It is "
            "valid as long as the request; use it only to wait.")
        .def_prop_ro(
            "status", Request::method(&dynamo_llm::Request::status),
            "DYNAMO_PENDING (2) before the end, then DYNAMO_END (1) or the error's status.")
        .def_prop_ro("timing", Request::method(&dynamo_llm::Request::timing), "Timestamps so far.")
        .def_prop_ro("usage", Request::method(&dynamo_llm::Request::usage), "Token counts so far.")
        .def_prop_ro("id", Request::method(&dynamo_llm::Request::id),
                     "\"req-\" and 16 hexadecimal digits, as in log records and errors.");

    nb::class_<Runtime>(m, "Runtime")
        .def(nb::init<const std::string &>(), "config_json"_a, without_gil)
        .def(
            "send", [](const Runtime &self, Request &request) { self.object.send(request.object); },
            "request"_a, without_gil, "Sends a request. Does not wait for the engine.")
        .def(
            "shutdown",
            [](const Runtime &self, std::int64_t timeout_ms) {
                self.object.shutdown(time_of(timeout_ms));
            },
            "timeout_ms"_a, without_gil,
            "Waits for requests in flight, cancels the remaining ones, and stops the engine.")
        .def(
            "call",
            [](const Runtime &self, const std::string &name, const std::string &arguments_json,
               std::int64_t timeout_ms) {
                return self.object.call(name, dynamo_llm::Json::raw(arguments_json),
                                        time_of(timeout_ms));
            },
            "name"_a, "arguments_json"_a, "timeout_ms"_a, without_gil,
            "Runs a control call of the engine, and returns its result as JSON.")
        .def("statistics", Runtime::method(&dynamo_llm::Runtime::statistics),
             "Returns counters as JSON.")
        .def("models", Runtime::method(&dynamo_llm::Runtime::models), without_gil,
             "Returns the models as JSON. May wait for an engine.")
        .def("metrics", Runtime::method(&dynamo_llm::Runtime::metrics), without_gil,
             "Returns metrics in Prometheus' text format.");
    bind_tokenizer(m);
}

}  // namespace dynamo::python
