// SPDX-License-Identifier: Apache-2.0
// The Python module `dynamo_llm._core`: what programs in Python call (client.cpp), and what the runtime
// in Python needs of the library.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "python/api.hpp"
#include "python/chunk.hpp"
#include "python/client.hpp"
#include "python/drain.hpp"
#include "python/gil.hpp"
#include "python/host.hpp"
#include "python/sink.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace dynamo::python;

namespace {

dynamo_stream_t *stream_of(std::uintptr_t handle) {
    return reinterpret_cast<dynamo_stream_t *>(handle);
}

nb::list take_commands() {
    nb::list result;
    for (const host::Command &command : host::take()) {
        const nb::object text =
            command.is_bytes ? nb::object(nb::bytes(command.json.data(), command.json.size()))
                             : nb::object(nb::str(command.json.data(), command.json.size()));
        result.append(nb::make_tuple(static_cast<int>(command.kind), command.instance,
                                     reinterpret_cast<std::uintptr_t>(command.stream),
                                     command.request_id, text));
    }
    return result;
}

// {"DYNAMO_ERROR_CANCELLED": -12, ...}: read from the library, so that there is one list.
nb::dict all_statuses() {
    nb::dict statuses;
    for (std::int32_t status = -128; status < 128; ++status) {
        const std::string name = dynamo_status_name(status);
        if (name != "DYNAMO_UNKNOWN_STATUS") {
            statuses[name.c_str()] = status;
        }
    }
    return statuses;
}

const char *text_or_null(const std::string &text) {
    return text.empty() ? nullptr : text.c_str();
}

}  // namespace

NB_MODULE(_core, m) {
    if (const char *const problem = load_installed_library()) {
        throw nb::import_error(problem);
    }
    m.doc() = "Binding of libdynamo_llm_capi. Not for users: they import dynamo_llm.";
    nb::set_leak_warnings(false);  // what is alive when a program ends is no concern of its stderr
    bind_client(m);
    m.attr("VERSION") = dynamo_version_string();
    m.attr("STATUSES") = all_statuses();

    m.def("host_open", &host::open, "wake_fd"_a,
          "Open the command queue; wakes are written to the descriptor, eight bytes each.");
    m.def("host_take", &take_commands,
          nb::sig("def host_take() -> list[tuple[int, int, int, str, str | bytes]]"),
          "All commands since the last call: (kind, instance, stream, request_id, JSON or data).");
    m.def("host_report_start", &host::report_start, "instance"_a, "status"_a, "message"_a,
          "detail"_a, "Tell the caller that waits how starting an engine came out.");
    m.def("host_report_stop", &host::report_stop, "instance"_a,
          "Tell the caller that waits that an engine has stopped.");
    m.def("host_report_description", &host::report_description, "instance"_a, "description"_a,
          "What an engine says of itself now, as JSON.");
    m.def("host_report_exit", &host::report_exit, "Python's exit functions have run.");
    m.def("host_close", &host::close, "Refuse all further commands.");

    bind_drain(m);
    bind_sink(m);
    m.def(
        "stream_push",
        [](std::uintptr_t stream, nb::handle dict) {
            Chunk chunk;
            const std::int32_t status = chunk.read(dict.ptr()) ? push(stream_of(stream), chunk.what)
                                                               : DYNAMO_ERROR_INTERNAL;
            if (PyErr_Occurred() != nullptr) {
                nb::raise_python_error();
            }
            return status;
        },
        "stream"_a, "chunk"_a,
        "Push a chunk (see runtime/engine.py). Returns a status: OK, PENDING (full, nothing taken) "
        "or an error.");
    m.def(
        "stream_wait",
        [](std::uintptr_t stream, std::int64_t timeout_ms) {
            const Released released;
            return dynamo_stream_wait(stream_of(stream), timeout_ms);
        },
        "stream"_a, "timeout_ms"_a, "Wait, without the GIL, until a full stream has room.");
    m.def(
        "stream_is_cancelled",
        [](std::uintptr_t stream) { return dynamo_stream_is_cancelled(stream_of(stream)) != 0; },
        "stream"_a, "Whether the request ended on the caller's side (or the stream is gone).");
    m.def(
        "stream_remaining",
        [](std::uintptr_t stream) -> std::optional<double> {
            std::int64_t remaining = -1;
            if (dynamo_stream_remaining(stream_of(stream), &remaining) != DYNAMO_OK ||
                remaining < 0) {
                return std::nullopt;
            }
            return static_cast<double>(remaining) / 1000;
        },
        "stream"_a, "Seconds until the request's deadline; None if there is none.");
    m.def(
        "stream_fail",
        [](std::uintptr_t stream, std::int32_t status, const std::string &message,
           const std::string &detail) {
            return dynamo_stream_fail(stream_of(stream), status, message.c_str(),
                                      text_or_null(detail));
        },
        "stream"_a, "status"_a, "message"_a, "detail"_a,
        "End the answer with an error; give the stream up.");

    m.def(
        "log",
        [](std::int32_t level, const std::string &logger, const std::string &message) {
            const Released released;  // the callback may wait for someone who needs it
            dynamo_log_write(level, logger.c_str(), message.c_str());
        },
        "level"_a, "logger"_a, "message"_a, "Log a record the library's way.");
    m.def("log_level", &dynamo_log_level, "Least level that is delivered.");
    m.def("config_schema", &dynamo_config_schema, "JSON Schema of a runtime's configuration.");
}
