// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine_library.hpp"

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/callback.hpp"
#include "base/error.hpp"
#include "base/platform.hpp"
#include "base/structs.hpp"
#include "base/utf8.hpp"
#include "base/version.hpp"
#include "runtime/engine_registry.hpp"

namespace dynamo::engine_library {
namespace {

constexpr const char *entry_name = "dynamo_engine_entry";

struct Libraries {
    std::mutex mutex;
    std::map<void *, std::shared_ptr<EngineType>> types;  // by what the loader returned
};

// Never freed: engines may be used while the process exits.
Libraries &libraries() {
    static Libraries *const instance = new Libraries;
    return *instance;
}

class Loader {
  public:
    explicit Loader(const std::string &path) : path_(path) {}

    void *open() const {
        if (const std::string problem = platform::library_problem(path_); !problem.empty()) {
            const bool is_missing = problem == "does not exist";
            reject(is_missing ? DYNAMO_ERROR_ENGINE_NOT_FOUND : DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                   problem + "; give the path of a shared library with the function " + entry_name +
                       "()");
        }
        std::string problem;
        void *const library = platform::open_library(path_, platform::Visibility::local, problem);
        if (library == nullptr) {
            reject(DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                   "cannot be loaded: " + as_utf8(problem) +
                       "; link it with the libraries that it needs, libdynamo_llm_capi included");
        }
        return library;
    }

    // Streams of this library are unknown to another copy of it.
    void require_same_core(void *library) const {
        using Version = std::uint32_t (*)();
        const auto linked =
            reinterpret_cast<Version>(platform::symbol(library, "dynamo_abi_version"));
        if (linked != nullptr && linked != &dynamo_abi_version) {
            reject(DYNAMO_ERROR_VERSION_MISMATCH,
                   "is linked with another copy of libdynamo_llm_capi (ABI " +
                       std::to_string(linked()) +
                       ") than this program; link both with the same shared library");
        }
    }

    dynamo_engine_library_t ask(void *library) const {
        const auto entry =
            reinterpret_cast<dynamo_engine_entry_t>(platform::symbol(library, entry_name));
        if (entry == nullptr) {
            reject(DYNAMO_ERROR_ENGINE_UNAVAILABLE,
                   std::string("does not export the function ") + entry_name +
                       "(); define it as dynamo_llm/engine.h describes");
        }
        require_same_core(library);
        dynamo_engine_library_t described{};
        described.struct_size = sizeof described;
        std::int32_t status = DYNAMO_OK;
        last_error::set(DYNAMO_OK);
        CaughtException caught;
        bool has_thrown = false;
        try {
            status = entry(DYNAMO_LLM_ABI_VERSION, &described);
        }
        DYNAMO_RETHROW_THREAD_EXIT
        catch (...) {
            has_thrown = true;
            caught.describe();
        }
        if (has_thrown) {
            reject(
                caught.is_out_of_memory() ? DYNAMO_ERROR_OUT_OF_MEMORY : DYNAMO_ERROR_ENGINE_FAILED,
                std::string("cannot be used: ") + entry_name + "() threw " +
                    as_utf8(caught.text()));
        }
        if (status < 0) {
            const Error error = last_error::copy();
            const bool has_message = error.status == status && !error.message.empty();
            reject(status,
                   "refused to be used: " + (has_message
                                                 ? error.message
                                                 : std::string(entry_name) + "() failed with " +
                                                       status_name(status) + ", without a message"),
                   has_message ? error.detail : "");
        }
        return described;
    }

    std::shared_ptr<EngineType> make_type(const dynamo_engine_library_t &described) const {
        std::string problem;
        try {
            if (!version::can_serve(described.abi_version, described.version)) {
                reject(DYNAMO_ERROR_VERSION_MISMATCH,
                       "was built with dynamo-llm " + as_utf8(described.version) + " (ABI " +
                           std::to_string(described.abi_version) +
                           "), but this program runs " DYNAMO_LLM_VERSION_STRING " (ABI " +
                           std::to_string(DYNAMO_LLM_ABI_VERSION) +
                           "), which must have the same ABI and not be older");
            }
            auto type = engine_registry::make_type(structs::read(described.engine, "engine"));
            type->user = described.user;
            return type;
        } catch (const Failure &failure) {
            if (failure.error().status != DYNAMO_ERROR_INVALID_ARGUMENT) {
                throw;
            }
            problem = failure.what();
        }
        reject(DYNAMO_ERROR_ENGINE_FAILED, std::string("cannot be used, because ") + entry_name +
                                               "() set a wrong value: " + problem);
    }

    [[noreturn]] void reject(std::int32_t status, const std::string &problem,
                             const std::string &detail = "") const {
        Error error;
        error.status = status;
        error.message = "the engine library \"" + as_utf8(path_) + "\" " + problem;
        error.layer = "engine";
        error.detail = detail;
        throw Failure(std::move(error));
    }

  private:
    const std::string &path_;
};

}  // namespace

std::shared_ptr<EngineType> load(const std::string &path) {
    const Loader loader(path);
    void *const library = loader.open();
    {
        const std::lock_guard lock(libraries().mutex);
        if (const auto found = libraries().types.find(library); found != libraries().types.end()) {
            return found->second;
        }
    }
    std::shared_ptr<EngineType> type = loader.make_type(loader.ask(library));
    const std::lock_guard lock(libraries().mutex);
    return libraries().types.emplace(library, std::move(type)).first->second;
}

}  // namespace dynamo::engine_library
