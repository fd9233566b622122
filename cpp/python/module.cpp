// SPDX-License-Identifier: Apache-2.0
// Defines the Python module `dynamo_llm._core`: the classes that Python programs use (client.cpp), and the functions
// that the runtime in Python needs.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "base/environment.hpp"
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

// Returns {"DYNAMO_ERROR_CANCELLED": -12, ...}, read from the library, so that the list exists only once.
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

// Adds all names to the module.
void bind(nb::module_ m) {
    if (const char *const problem = load_installed_library()) {
        throw nb::import_error(problem);
    }
    nb::set_leak_warnings(false);  // objects that are alive at exit are normal
    bind_client(m);
    m.attr("VERSION") = dynamo_version_string();
    m.attr("STATUSES") = all_statuses();

    m.def(
        "variable",
        [](const char *name) {
            const char *const value = dynamo::environment::variable(name);
            return value == nullptr ? nb::none() : nb::steal(PyUnicode_DecodeFSDefault(value));
        },
        "name"_a, nb::sig("def variable(name: str) -> str | None"),
        "An environment variable; None if it is not set, or if the program has raised privileges.");
    m.def("host_open", &host::open, "wake_fd"_a,
          "Open the command queue; wakes are written to the descriptor, eight bytes each.");
    m.def("host_enter_loop", &host::enter_loop, "The calling thread runs the loop from now on.");
    m.def("is_loop_thread", &host::is_loop_thread,
          "Whether the caller runs the loop, where to wait for the loop is to wait for ever.");
    m.def("host_take", &take_commands,
          nb::sig("def host_take() -> list[tuple[int, int, int, str, str | bytes]]"),
          "All commands since the last call: (kind, instance, stream, request_id, JSON or data).");
    m.def("host_report_start", &host::report_start, "instance"_a, "status"_a, "message"_a,
          "detail"_a, "Tell the caller that waits how starting an engine came out.");
    m.def("host_report_stop", &host::report_stop, "instance"_a,
          "Tell the caller that waits that an engine has stopped.");
    m.def("host_report_description", &host::report_description, "instance"_a, "description"_a,
          "What an engine says of itself now, as JSON.");
    m.def("host_report_metrics", &host::report_metrics, "instance"_a, "lines"_a,
          "Metrics of an engine's own, as lines in Prometheus' text format.");
    m.def("host_report_exit", &host::report_exit, "Python's exit functions have run.");
    m.def("host_close", &host::close, "Refuse all further commands.");
    m.def("end_process_in", &host::end_process_in, "milliseconds"_a, "code"_a,
          "End the process after a time, unless called again before; -1: not at all.");

    bind_drain(m);
    bind_sink(m);
    m.def(
        "stream_push",
        [](std::uintptr_t stream, nb::handle dict) {
            Chunk chunk;
            const std::int32_t status =
                chunk.read(dict.ptr()) ? push(stream_of(stream), chunk) : DYNAMO_ERROR_INTERNAL;
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
        "stream_set_queued",
        [](std::uintptr_t stream, bool is_queued) {
            dynamo_stream_set_queued(stream_of(stream), is_queued ? 1 : 0);
        },
        "stream"_a, "is_queued"_a,
        "Whether the request waits in a queue of the engine's own; False when the work begins.");
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
            forget_halves(stream_of(stream));
            return dynamo_stream_fail(stream_of(stream), status, message.c_str(),
                                      text_or_null(detail));
        },
        "stream"_a, "status"_a, "message"_a, "detail"_a,
        "End the answer with an error; give the stream up.");

    m.def(
        "log",
        [](std::int32_t level, const std::string &logger, const std::string &message) {
            const Released released;  // the log callback may wait for a thread that needs the GIL
            dynamo_log_write(level, logger.c_str(), message.c_str());
        },
        "level"_a, "logger"_a, "message"_a, "Log a record the library's way.");
    m.def("log_level", &dynamo_log_level, "Least level that is delivered.");
    m.def("config_schema", &dynamo_config_schema, "JSON Schema of a runtime's configuration.");
}

// Used instead of NB_MODULE(), which registers nanobind's types before any code of the module runs: a second
// interpreter would replace the types of the first, whose next call would crash.
int execute(PyObject *module) {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError,
                        "dynamo_llm cannot be imported in a sub-interpreter: it works in the main "
                        "interpreter of a process only. Run this program in the main interpreter "
                        "(mod_wsgi: \"WSGIApplicationGroup %{GLOBAL}\"; uWSGI: "
                        "\"single-interpreter = true\") or in a process of its own");
        return -1;
    }
    // Types are created once per interpreter: after `del sys.modules[...]` the next module reuses the names of the
    // first. (The interpreter's dictionary is freed with it, so a new interpreter creates new types.)
    const char *const key = "dynamo_llm._core";
    PyObject *const kept = PyInterpreterState_GetDict(PyInterpreterState_Get());
    if (PyObject *const first = PyDict_GetItemString(kept, key)) {
        return PyDict_Merge(PyModule_GetDict(module), first, 0);
    }
    if (!nb::register_module(module)) {
        return -1;
    }
    try {
        bind(nb::borrow<nb::module_>(module));
        return PyDict_SetItemString(kept, key, PyModule_GetDict(module));
    } catch (nb::python_error &error) {
        error.restore();
        nb::chain_error(PyExc_ImportError, "dynamo_llm._core could not be initialized");
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_ImportError, error.what());
    }
    return -1;
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void *>(&execute)},
#if PY_VERSION_HEX >= 0x030C0000
    // Not really supported: execute() rejects other interpreters, with a more helpful message than CPython's.
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_core",
    "Binding of libdynamo_llm_capi. Not for users: they import dynamo_llm.",
    0,
    nullptr,
    slots,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__core();
PyMODINIT_FUNC PyInit__core() {
    return PyModuleDef_Init(&definition);
}
