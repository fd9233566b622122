// SPDX-License-Identifier: Apache-2.0
#include "embed/python.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "base/platform.hpp"
#include "base/wait_check.hpp"
#include "embed/bridge.h"
#include "embed/locate.hpp"
#include "embed/platform.hpp"
#include "runtime/engine_registry.hpp"
#include "runtime/request.hpp"
#include "runtime/runtime.hpp"

namespace dynamo::embed {
namespace {

constexpr const char *engine_name = "python";

constinit std::atomic<dynamo_call_router_t> call_router_function{nullptr};

constinit std::atomic<const dynamo_detokenizer_functions *> detokenizer_functions{nullptr};

void set_detokenizers(const dynamo_detokenizer_functions *functions) {
    detokenizer_functions = functions;
}

void set_call_router(dynamo_call_router_t function) {
    call_router_function = function;
}

// Runs a function for the module. An exception becomes a status and the thread's last error.
template <class Function>
std::int32_t status_of(Function function) {
    try {
        function();
        return DYNAMO_OK;
    } catch (const Failure &failure) {
        last_error::set(failure.error());
    } catch (const std::exception &) {
        last_error::set_out_of_memory();
    }
    return last_error::status();
}

std::int32_t set_text_stage(dynamo_stream_t *stream, std::uint32_t index,
                            const dynamo_text_stage *stage, std::uint64_t prompt_tokens) {
    std::unique_ptr<TextStage> owned(new (std::nothrow) TextStage(*stage));
    if (owned == nullptr) {
        stage->release(stage->state);
    }
    return status_of([&] {
        if (owned == nullptr) {
            throw std::bad_alloc();
        }
        HandleRef<EngineStream> held(stream);
        if (request_of(*held).set_text_stage(stream, index, std::move(owned), prompt_tokens) !=
            Stream::PushResult::ok) {
            throw Failure(DYNAMO_ERROR_CANCELLED, "the request has ended");
        }
    });
}

std::int32_t forward(dynamo_stream_t *stream, dynamo_runtime_t *runtime, const char *body_json) {
    return status_of([&] {
        HandleRef<EngineStream> held(stream);
        const HandleRef<Runtime> target(runtime);
        request_of(*held).forward(stream, target->shared_from_this(), Body::parse(body_json));
    });
}

const dynamo_api the_api = {
    sizeof(dynamo_api),
    DYNAMO_LLM_VERSION_STRING,
#include "api_table.inc"
};

template <class Function>
Function *python_function(const char *name) {
    return reinterpret_cast<Function *>(platform::global_symbol(name));
}

bool python_runs() {
    auto is_initialized = python_function<int()>("Py_IsInitialized");
    if (is_initialized == nullptr && platform::promote_loaded_python()) {
        is_initialized = python_function<int()>("Py_IsInitialized");
    }
    return is_initialized != nullptr && is_initialized() != 0;
}

// Releases the GIL if the caller holds it: waiting with the GIL for a thread that needs the GIL is a deadlock.
class GilReleased {
  public:
    GilReleased() {
        if (!python_runs()) {
            return;
        }
        // Not PyGILState_Check(): it always returns 1 once the process has created a subinterpreter.
        const auto own = python_function<void *()>("PyGILState_GetThisThreadState");
        const auto current = python_function<void *()>("_PyThreadState_UncheckedGet");
        if (own != nullptr && current != nullptr && own() != nullptr && own() == current()) {
            state_ = python_function<void *()>("PyEval_SaveThread")();
        }
    }
    ~GilReleased() {
        if (state_ != nullptr) {
            python_function<void(void *)>("PyEval_RestoreThread")(state_);
        }
    }
    GilReleased(const GilReleased &) = delete;

  private:
    void *state_ = nullptr;
};

// Throws Failure with PYTHON_UNAVAILABLE and the loader's reason.
void *open_library(const std::string &path, dynamo::platform::Visibility visibility) {
    std::string problem;
    void *const library = dynamo::platform::open_library(path, visibility, problem);
    if (library == nullptr) {
        throw Failure(DYNAMO_ERROR_PYTHON_UNAVAILABLE, "cannot open " + path + ": " + problem,
                      "embed");
    }
    return library;
}

std::string running_version() {
    const auto get_version = python_function<const char *()>("Py_GetVersion");
    const std::string text = get_version == nullptr ? "" : get_version();  // "3.11.7 (main, ..."
    if (text.find("free-threading") != text.npos) {
        throw Failure(DYNAMO_ERROR_PYTHON_UNAVAILABLE,
                      "this program runs a free-threaded build of Python, which this version does "
                      "not support",
                      "embed");
    }
    return text.substr(0, text.find('.', 2));
}

// Returns the interpreter whose environment Python uses; "" if Python already ran.
std::string start(const std::string &wanted) {
    const bool joins = python_runs();
    const Location location = joins ? locate_for_running(running_version()) : locate(wanted);
    if (!joins) {
        open_library(location.library, dynamo::platform::Visibility::global);
    }
    void *const bridge = open_library(location.bridge, dynamo::platform::Visibility::local);
    const auto bridge_start = reinterpret_cast<dynamo_bridge_start_t>(
        dynamo::platform::symbol(bridge, DYNAMO_BRIDGE_START_NAME));
    if (bridge_start == nullptr) {
        throw Failure(DYNAMO_ERROR_VERSION_MISMATCH,
                      location.bridge +
                          " is not the Python module of this library: it has no function " +
                          DYNAMO_BRIDGE_START_NAME,
                      "embed");
    }
    dynamo_bridge_options options{};
    options.executable = joins ? nullptr : location.executable.c_str();
    options.package_dir = location.package_dir.c_str();
    options.set_wait_check = wait_check::set_callback;
    options.set_call_router = set_call_router;
    options.set_detokenizers = set_detokenizers;
    options.set_text_stage = set_text_stage;
    options.forward = forward;
    const engine_registry::BuiltInScope adding(engine_registry::BuiltInScope::Kind::hosted);
    if (bridge_start(&the_api, &options) != DYNAMO_OK) {
        Error error = last_error::copy();
        error.layer = "embed";
        throw Failure(std::move(error));
    }
    return location.executable;
}

struct State {
    std::mutex mutex;
    bool has_started = false;
    std::string executable;  // the interpreter; "" if Python already ran
};

// Leaked: Python is never finalized, so this state must stay valid, too.
State &state() {
    static State *const instance = new State;
    return *instance;
}

}  // namespace

std::string engine_from_python(const ModelConfig &config) {
    const GilReleased gil_released;
    const std::lock_guard lock(state().mutex);
    const std::string &wanted = config.python_executable;
    if (!state().has_started) {
        state().executable = start(wanted);
        state().has_started = true;
    }
    if (!wanted.empty() && wanted != state().executable) {
        const std::string problem =
            "\"python.executable\" is " + wanted + ", but this process runs " +
            (state().executable.empty() ? "Python itself" : "the Python of " + state().executable) +
            ", and a process has one Python";
        throw Failure(DYNAMO_ERROR_INVALID_CONFIG, problem, "embed");
    }
    return engine_name;
}

dynamo_selection_t call_router(const Engine &router, const dynamo_router_call &call) {
    dynamo_selection_t selection{};
    selection.struct_size = sizeof selection;
    // The function is set: only the module that sets it starts routers.
    router.check(call_router_function.load()(router.instance(), &call, &selection), "call_router");
    return selection;
}

const dynamo_detokenizer_functions &detokenizers() {
    return *detokenizer_functions.load();
}

}  // namespace dynamo::embed
