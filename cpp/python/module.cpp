// SPDX-License-Identifier: Apache-2.0
// Defines the Python module `dynamo_llm._core`: the classes that Python programs use (client.cpp), and the functions
// that the runtime in Python needs.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "base/environment.hpp"
#include "frontend/client.hpp"
#include "python/api.hpp"
#include "python/bindings.hpp"
#include "python/chunk.hpp"
#include "python/gil.hpp"
#include "python/host.hpp"

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

// Adds all names to the module.
void bind(nb::module_ m) {
    if (const char *const problem = load_installed_library()) {
        throw nb::import_error(problem);
    }
    nb::set_leak_warnings(false);  // objects that are alive at exit are normal
    bind_client(m);
    bind_cluster(m);
    bind_creation(m);
    bind_drain(m);
    bind_router_calls(m);
    bind_sink(m);
    bind_text_stages(m);
    m.attr("VERSION") = dynamo_version_string();
    m.attr("STATUSES") = all_statuses();

    m.def(
        "variable",
        [](const char *name) {
            const char *const value = dynamo::environment::variable(name);
            return value == nullptr ? nb::none() : nb::steal(PyUnicode_DecodeFSDefault(value));
        },
        "name"_a, nb::sig("def variable(name: str) -> str | None"),
        "Returns an environment variable; None if it is not set, or if the program is privileged.");
    m.def("host_open", &host::open, "wake_fd"_a,
          "Opens the command queue. Each wake writes eight bytes to the descriptor.");
    m.def("host_enter_loop", &host::enter_loop,
          "Marks the calling thread as the thread of the asyncio event loop.");
    m.def(
        "is_loop_thread", &host::is_loop_thread,
        "Whether this is the thread of the asyncio event loop, which must not wait for the loop.");
    m.def("host_take", &take_commands,
          nb::sig("def host_take() -> list[tuple[int, int, int, str, str | bytes]]"),
          "Returns all commands since the last call: (kind, instance, stream, request_id, JSON or "
          "payload).");
    m.def("host_report_start", &host::report_start, "instance"_a, "status"_a, "message"_a,
          "detail"_a, "Reports the result of a start to the caller that waits for it.");
    m.def("host_report_progress", &host::report_progress, "instance"_a, "phase"_a, "bytes_done"_a,
          "bytes_total"_a, "fraction"_a,
          "Reports the progress of a start. Returns False if it was cancelled.");
    m.def("host_report_stop", &host::report_stop, "instance"_a,
          "Reports to the caller that waits for it that an engine has stopped.");
    m.def("host_report_description", &host::report_description, "instance"_a, "description"_a,
          "Replaces the description of an engine, as JSON.");
    m.def("host_report_metrics", &host::report_metrics, "instance"_a, "lines"_a,
          "Replaces the metrics that an engine defines, as lines in Prometheus' text format.");
    m.def("keep_thread_state", &keep_thread_state,
          "Keeps Python's state of the calling thread until the thread ends. Otherwise each "
          "PyGILState_Ensure() creates a new one, if the thread is not one of Python's.");
    m.def("host_report_exit", &host::report_exit, "Reports that Python's exit functions have run.");
    m.def("host_close", &host::close, "is_exiting"_a, "Refuses all further commands.");
    m.def(
        "frontend_set_target",
        [](std::uint64_t instance, const std::string &target) {
            dynamo::frontend::client::set_target(instance, target);
        },
        "instance"_a, "target"_a,
        "Sends requests of an engine to Dynamo's frontend without Python from now on: a JSON "
        "object with port, default_model, silence_ms, and models.");
    m.def("frontend_source_port", &dynamo::frontend::client::source_port,
          "Returns the port that connections to Dynamo's frontend come from; 0: there are none.");
    m.def("frontend_remove_target", &dynamo::frontend::client::remove_target, "instance"_a,
          "No longer does that.");
    m.def("end_process_in", &host::end_process_in, "milliseconds"_a, "code"_a,
          "Ends the process after a time, unless it is called again before; -1 only cancels an "
          "earlier call.");

    m.def(
        "stream_push",
        [](std::uintptr_t stream, nb::handle dict, std::optional<std::uint32_t> index) {
            Chunk chunk;
            const bool is_right = chunk.read(dict.ptr());
            chunk.what.index = index.value_or(chunk.what.index);
            const std::int32_t status =
                is_right ? push(stream_of(stream), chunk) : DYNAMO_ERROR_INTERNAL;
            if (PyErr_Occurred() != nullptr) {
                nb::raise_python_error();
            }
            return status;
        },
        "stream"_a, "chunk"_a, "index"_a = nb::none(),
        "Pushes a chunk (see runtime/engine.py), of this choice if it is given. Returns OK, "
        "PENDING "
        "(the stream is full, nothing was pushed), or an error; CANCELLED also if the chunk was "
        "the "
        "last one that the choice needs.");
    m.def(
        "stream_wait",
        [](std::uintptr_t stream, std::int64_t timeout_ms) {
            return dynamo_stream_wait(stream_of(stream), timeout_ms);
        },
        "stream"_a, "timeout_ms"_a, without_gil, "Waits until a full stream is writable.");
    m.def(
        "stream_is_cancelled",
        [](std::uintptr_t stream) { return dynamo_stream_is_cancelled(stream_of(stream)) != 0; },
        "stream"_a, "Whether the request ended on the caller's side, or the stream is stale.");
    m.def(
        "stream_set_queued",
        [](std::uintptr_t stream, bool is_queued) {
            dynamo_stream_set_queued(stream_of(stream), is_queued ? 1 : 0);
        },
        "stream"_a, "is_queued"_a,
        "Reports whether the request waits in the engine's own queue; False when the work begins.");
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
        "stream"_a, "Returns the seconds until the request's deadline; None if it has none.");
    m.def(
        "stream_fail",
        [](std::uintptr_t stream, std::int32_t status, const std::string &message,
           const std::string &detail) {
            forget_halves(stream_of(stream));
            return dynamo_stream_fail(stream_of(stream), status, message.c_str(),
                                      detail.empty() ? nullptr : detail.c_str());
        },
        "stream"_a, "status"_a, "message"_a, "detail"_a,
        "Ends the answer with an error, and releases the stream.");

    m.def(
        "log",
        [](std::int32_t level, const std::string &logger, const std::string &message) {
            dynamo_log_write(level, logger.c_str(), message.c_str());
        },
        // The log callback may wait for a thread that needs the GIL.
        "level"_a, "logger"_a, "message"_a, without_gil, "Logs a record of the library.");
    m.def("log_level", &dynamo_log_level, "Returns the lowest level that is delivered.");
    m.def("config_schema", &dynamo_config_schema,
          "Returns the JSON Schema of a runtime's configuration.");
}

constinit std::atomic<bool> is_imported{false};

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
    is_imported = true;
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

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_core",
                          "Binding of libdynamo_llm_capi. Not for users: they import dynamo_llm.",
                          0,
                          nullptr,
                          slots,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

bool dynamo::python::was_imported() noexcept {
    return is_imported;
}

PyMODINIT_FUNC PyInit__core();
PyMODINIT_FUNC PyInit__core() {
    return PyModuleDef_Init(&definition);
}
