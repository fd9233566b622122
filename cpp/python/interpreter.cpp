// SPDX-License-Identifier: Apache-2.0
// Starts CPython in a program that does not run it, or joins the one that runs. Uses the plain CPython API,
// because nanobind must not be used before the module was imported.
//
// docs/embedding.md documents the guarantees for the host; the comments here explain the implementation.
#include <Python.h>
#include <structmember.h>

#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/environment.hpp"
#include "embed/bridge.h"
#include "python/api.hpp"
#include "python/bindings.hpp"
#include "python/detokenizers.hpp"
#include "python/exception.hpp"
#include "python/gil.hpp"
#include "python/host.hpp"
#include "python/router_calls.hpp"
#include "python/text_stages.hpp"

namespace dynamo::python {
namespace {

// Deep Python recursion and native engines both need stack. 16 MiB of address space cost nothing.
constexpr std::size_t stack_bytes = std::size_t{16} << 20;
// How long exit() may wait for Python's exit functions; documented in docs/embedding.md.
constexpr int exit_patience_ms = 2000;

std::int32_t fail(std::int32_t status, const std::string &message, const std::string &detail = "") {
    return dynamo_engine_error(status, message.c_str(), detail.empty() ? nullptr : detail.c_str());
}

// ------------------------------------------------------------------------- Helpers for the CPython API

struct DecRef {
    void operator()(PyObject *object) const { Py_DECREF(object); }
};
using Object = std::unique_ptr<PyObject, DecRef>;

std::string text_of(PyObject *object) {
    const Object text(object == nullptr ? nullptr : PyObject_Str(object));
    const char *const bytes = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
    PyErr_Clear();
    return bytes == nullptr ? "" : bytes;
}

// Clears the current exception and returns it as "ImportError: ...".
std::string pending_exception() {
    const Object error(take_exception());
    return error ? std::string(Py_TYPE(error.get())->tp_name) + ": " + text_of(error.get())
                 : "no reason given";
}

// Runs code with these global variables. Returns all global variables as a new reference, or nullptr with an exception
// set, also if the value of a variable is nullptr.
PyObject *run_code(const char *code,
                   std::initializer_list<std::pair<const char *, PyObject *>> variables) {
    const Object globals(PyDict_New());
    if (!globals ||
        PyDict_SetItemString(globals.get(), "__builtins__", PyEval_GetBuiltins()) != 0) {
        return nullptr;
    }
    for (const auto &[name, value] : variables) {
        if (value == nullptr || PyDict_SetItemString(globals.get(), name, value) != 0) {
            return nullptr;
        }
    }
    PyObject *const all = globals.get();
    const Object done(
        without_thread_exit([=] { return PyRun_String(code, Py_file_input, all, all); }));
    return done ? Py_NewRef(all) : nullptr;
}

// Imports the package `dynamo_llm` from its folder, even if sys.path does not contain it, and
// returns its module runtime.host.
constexpr const char *import_host = R"(
import importlib, importlib.util, os, sys
loaded = sys.modules.get("dynamo_llm")
if loaded is None:
    spec = importlib.util.spec_from_file_location(
        "dynamo_llm", os.path.join(package_dir, "__init__.py"), submodule_search_locations=[package_dir])
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["dynamo_llm"] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules["dynamo_llm"]
        raise
elif not os.path.samefile(loaded.__path__[0], package_dir):
    raise ImportError(
        f"this process has imported dynamo_llm from {loaded.__path__[0]}, "
        f"but the C library belongs to {package_dir}")
host = importlib.import_module("dynamo_llm.runtime.host")
)";

PyObject *import_host_module(const char *package_dir) {
    const Object folder(PyUnicode_DecodeFSDefault(package_dir));
    const Object globals(run_code(import_host, {{"package_dir", folder.get()}}));
    PyObject *const host = globals ? PyDict_GetItemString(globals.get(), "host") : nullptr;
    Py_XINCREF(host);
    return host;
}

// Calls a function of the host module without arguments.
bool call(PyObject *host, const char *function) {
    const Object result(
        without_thread_exit([&] { return PyObject_CallMethod(host, function, nullptr); }));
    return result != nullptr;
}

// ------------------------------------------------------------------------- Programs that do not run Python

// Shared by the thread that needs Python and the loop thread that starts it.
struct Start {
    std::string executable;
    std::string package_dir;
    std::mutex mutex;
    std::condition_variable changed;
    bool is_done = false;
    std::string problem;  // "" if Python runs
};

pthread_t loop_thread;
pid_t own_pid;
// If the initialization of CPython fails, it cannot be repeated in the same process.
// Leaked, because it is also read while the process exits.
std::string &permanent_problem = *new std::string;

PyObject *write_log(PyObject *, PyObject *arguments) {
    int level;
    const char *logger;
    const char *message;
    if (PyArg_ParseTuple(arguments, "iss", &level, &logger, &message) == 0) {
        return nullptr;
    }
    {
        const Released released;  // the log callback may wait for a thread that needs the GIL
        dynamo_log_write(level, logger, message);
    }
    Py_RETURN_NONE;
}

// Redirects Python's stdout and stderr to the log. The package cannot be imported yet, because sys.path is not
// complete.
bool redirect_streams(const std::string &package_dir) {
    static PyMethodDef log_method = {"write_log", write_log, METH_VARARGS, nullptr};
    const Object log(PyCFunction_New(&log_method, nullptr));
    const Object path(PyUnicode_DecodeFSDefault((package_dir + "/runtime/streams.py").c_str()));
    const Object globals(run_code(R"(
space = {"__name__": "dynamo_llm.runtime.streams"}
with open(path, "rb") as file:
    exec(compile(file.read(), path, "exec"), space)
space["redirect"](write_log)
)",
                                  {{"path", path.get()}, {"write_log", log.get()}}));
    return globals != nullptr;
}

// Imports site as Py_InitializeFromConfig() would have done. sys.flags.no_site decides whether site does its
// work, and whether subprocesses get -S; a subinterpreter takes the setting from the configuration.
bool import_site() {
    PyObject *const flags = PySys_GetObject("flags");
    const Object flag(
        flags == nullptr
            ? nullptr
            : PyObject_GetAttrString(reinterpret_cast<PyObject *>(Py_TYPE(flags)), "no_site"));
    if (!flag || Py_TYPE(flag.get()) != &PyMemberDescr_Type) {
        return false;
    }
    const Py_ssize_t offset = reinterpret_cast<PyMemberDescrObject *>(flag.get())->d_member->offset;
    const auto first = static_cast<Py_ssize_t>(offsetof(PyTupleObject, ob_item));
    PyStructSequence_SetItem(flags, (offset - first) / static_cast<Py_ssize_t>(sizeof(PyObject *)),
                             PyLong_FromLong(0));
    if (const auto config =
            reinterpret_cast<const PyConfig *(*)()>(::dlsym(RTLD_DEFAULT, "_Py_GetConfig"))) {
        const_cast<PyConfig *>(config())->site_import = 1;
    }
    const Object site(PyImport_ImportModule("site"));
    return site != nullptr;
}

std::string initialize(const std::string &executable, const std::string &package_dir) {
    PyPreConfig preconfig;
    PyPreConfig_InitIsolatedConfig(&preconfig);
    preconfig.utf8_mode = 1;         // UTF-8 everywhere, also under LC_ALL=C
    preconfig.configure_locale = 0;  // the locale belongs to the host
    preconfig.coerce_c_locale = 0;
    PyStatus status = Py_PreInitialize(&preconfig);
    PyConfig config;
    if (!PyStatus_Exception(status)) {
        PyConfig_InitIsolatedConfig(&config);  // no PYTHON* variables, no user site, no argv
        config.install_signal_handlers = 0;
        config.configure_c_stdio = 0;
        config.buffered_stdio = 1;
        config.site_import = 0;  // import_site() does it later, when output goes to the log
        config.pathconfig_warnings = 0;
        // CPython finds the virtual environment from this path, and subprocesses find the
        // interpreter.
        status = PyConfig_SetBytesString(&config, &config.program_name, executable.c_str());
        if (!PyStatus_Exception(status)) {
            status = Py_InitializeFromConfig(&config);
        }
        PyConfig_Clear(&config);
    }
    if (PyStatus_Exception(status)) {
        return std::string("Python could not be initialized with ") + executable + ": " +
               (status.err_msg == nullptr ? "no reason given" : status.err_msg);
    }
    if (!redirect_streams(package_dir)) {
        return "the Python package in " + package_dir +
               " could not be started: " + pending_exception();
    }
    // In a privileged program, hides the variables from Python: packages read dozens of them, and some name code to
    // run. The environment itself belongs to the host and stays unchanged.
    if (environment::is_privileged() &&
        PyRun_SimpleString("import os; os.environ._data.clear()") != 0) {
        return "the environment variables could not be hidden from Python, as a program with "
               "raised privileges needs";
    }
    if (!import_site()) {
        return "Python could not be initialized with " + executable +
               ": its module site cannot be imported: " + pending_exception();
    }
    return {};
}

void run_exit_functions() {
    const bool is_host_child = ::getpid() != own_pid;
    const bool would_wait_for_itself =
        ::pthread_equal(::pthread_self(), loop_thread) != 0 || host::holds_gil();
    if (!is_host_child && !would_wait_for_itself) {
        host::exit_within(exit_patience_ms);
    }
}

void *loop_thread_main(void *argument) {
    auto *start = static_cast<Start *>(argument);
    loop_thread = ::pthread_self();
#if defined(__linux__)
    ::pthread_setname_np(loop_thread, "dynamo-python");
#endif
    own_pid = ::getpid();
    // With the default action of SIGPIPE, writing to a closed socket would end the host. Threads that Python
    // starts inherit this mask. No other signal is blocked, because subprocesses inherit the mask, too.
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
    struct sigaction interrupt_before;
    ::sigaction(SIGINT, nullptr, &interrupt_before);

    std::string problem = initialize(start->executable, start->package_dir);
    permanent_problem = problem;
    PyObject *host = nullptr;
    if (problem.empty()) {
        // Importing `signal` installs Python's SIGINT handler if the disposition was the default. Undo that.
        if ((interrupt_before.sa_flags & SA_SIGINFO) == 0 &&
            interrupt_before.sa_handler == SIG_DFL) {
            PyRun_SimpleString("import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)");
        }
        host = import_host_module(start->package_dir.c_str());
        if (host == nullptr || !call(host, "open_in_c_program")) {
            problem = "the Python package in " + start->package_dir +
                      " could not be started: " + pending_exception();
        }
    }
    const bool runs = problem.empty();
    {
        const std::lock_guard lock(start->mutex);
        start->problem = std::move(problem);
        start->is_done = true;
        start->changed.notify_all();
    }
    // `start` must not be used from here on: the waiting thread has released it.
    if (runs) {
        std::atexit(run_exit_functions);
        if (!call(host, "run_forever")) {
            PyErr_Clear();
        }
        host::close(true);
    }
    // The thread that initialized Python must live as long as Python (threading.main_thread() and CPython's C
    // code must agree), and Python is never finalized, because other threads may be running in it.
    if (Py_IsInitialized() != 0) {
        PyEval_SaveThread();
    }
    while (true) {
        ::pause();
    }
    return nullptr;
}

std::int32_t start_python(const dynamo_bridge_options &options) {
    if (Py_IsInitialized() != 0) {
        return fail(
            DYNAMO_ERROR_INTERNAL,
            "another library initialized Python while this one was about to; create the runtime "
            "again to join it");
    }
    Start start;
    start.executable = options.executable;
    start.package_dir = options.package_dir;
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, stack_bytes);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const int error = ::pthread_create(&thread, &attributes, loop_thread_main, &start);
    ::pthread_attr_destroy(&attributes);
    if (error != 0) {
        return fail(
            DYNAMO_ERROR_SYSTEM,
            "cannot start the thread for Python: " +
                (error == EAGAIN ? std::string("the limit of threads or of memory is reached")
                                 : "system error " + std::to_string(error)));
    }
    std::unique_lock lock(start.mutex);
    start.changed.wait(lock, [&] { return start.is_done; });
    return start.problem.empty()
               ? static_cast<std::int32_t>(DYNAMO_OK)
               : fail(DYNAMO_ERROR_PYTHON_UNAVAILABLE, start.problem, R"({"fatal": true})");
}

// ------------------------------------------------------------------------- Programs that run Python

std::int32_t join_python(const dynamo_bridge_options &options) {
    std::string problem;
    const PyGILState_STATE gil = without_thread_exit([] { return PyGILState_Ensure(); });
    {
        const Object host(import_host_module(options.package_dir));
        if (!host || !call(host.get(), "open_in_python_program")) {
            problem = "the Python package in " + std::string(options.package_dir) +
                      " could not be started: " + pending_exception();
        }
    }
    PyGILState_Release(gil);
    return problem.empty() ? static_cast<std::int32_t>(DYNAMO_OK)
                           : fail(DYNAMO_ERROR_PYTHON_UNAVAILABLE, problem);
}

}  // namespace
}  // namespace dynamo::python

extern "C" __attribute__((visibility("default"))) std::int32_t dynamo_bridge_start(
    const dynamo_api *api, const dynamo_bridge_options *options) {
    using namespace dynamo::python;
    const bool fits =
        api->struct_size == sizeof *api && std::strcmp(api->version, built_version()) == 0;
    if (!fits) {
        return api->dynamo_engine_error(
            DYNAMO_ERROR_VERSION_MISMATCH,
            (std::string("the library is version ") + api->version +
             ", but the Python package in " + options->package_dir + " was built with version " +
             built_version() + "; install both from one release")
                .c_str(),
            nullptr);
    }
    if (!adopt(*api)) {
        return api->dynamo_engine_error(DYNAMO_ERROR_VERSION_MISMATCH,
                                        "this process has two copies of libdynamo_llm_capi, and "
                                        "Python engines belong to the other",
                                        nullptr);
    }
    options->set_wait_check(host::check_wait);
    options->set_call_router(router_calls::call);
    options->set_detokenizers(detokenizers::functions());
    text_stages::set_functions(*options);
    if (!permanent_problem.empty()) {  // Python may be initialized, but is not usable
        return fail(DYNAMO_ERROR_PYTHON_UNAVAILABLE,
                    permanent_problem +
                        "; a process can initialize Python only once, so solve this problem "
                        "and restart the program",
                    R"({"fatal": true})");
    }
    if (options->executable != nullptr && was_imported()) {
        // The program's Python is being finalized: another thread must not initialize it again meanwhile.
        return fail(DYNAMO_ERROR_CLOSED, "Python in this process is shutting down");
    }
    const std::int32_t status =
        options->executable == nullptr ? join_python(*options) : start_python(*options);
    return status < 0 ? status : host::register_engine();
}
