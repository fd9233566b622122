// SPDX-License-Identifier: Apache-2.0
#include "python/api.hpp"

#include <string>

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace {

dynamo_api the_api{};

}  // namespace

#include "api_forward.inc"

namespace dynamo::python {
namespace {

#if defined(__APPLE__)
constexpr const char *library_name = "libdynamo_llm_capi.1.dylib";
#else
constexpr const char *library_name = "libdynamo_llm_capi.so.1";
#endif

// Leaked, because callers keep pointers to the text.
std::string &problem() {
    static std::string *const text = new std::string;
    return *text;
}

}  // namespace

const char *built_version() noexcept {
    return DYNAMO_LLM_VERSION_STRING;
}

bool adopt(const dynamo_api &api) noexcept {
    if (the_api.dynamo_runtime_create != nullptr) {
        return the_api.dynamo_runtime_create == api.dynamo_runtime_create;
    }
    the_api = api;
    return true;
}

#if !defined(_WIN32)

const char *load_installed_library() {
    if (the_api.dynamo_runtime_create != nullptr) {
        return nullptr;
    }
    Dl_info info;
    ::dladdr(reinterpret_cast<void *>(&load_installed_library), &info);
    const std::string own = info.dli_fname;
    const std::string folder = own.substr(0, own.rfind('/'));
    // In a wheel the library is in the package. After a CMake installation it is in the folder above
    // python3.N/site-packages.
    void *library = nullptr;
    for (const char *place : {"/lib/", "/../../../"}) {
        const std::string path = folder + place + library_name;
        library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library != nullptr) {
            break;
        }
        problem() += std::string(problem().empty() ? "" : "; ") + ::dlerror();
    }
    if (library == nullptr) {
        return problem().c_str();
    }
    dynamo_api api{};
    api.struct_size = sizeof api;
    api.version = DYNAMO_LLM_VERSION_STRING;
#define DYNAMO_API_NAME(name)                                                                    \
    api.name = reinterpret_cast<decltype(api.name)>(::dlsym(library, #name));                    \
    if (api.name == nullptr) {                                                                   \
        problem() = std::string(library_name) + " in " + folder +                                \
                    " has no " #name "; it is not the one that was installed with this package"; \
        return problem().c_str();                                                                \
    }
#include "api_names.inc"
#undef DYNAMO_API_NAME
    const std::string version = api.dynamo_version_string();
    if (version != built_version()) {
        problem() = std::string(library_name) + " in " + folder + " is version " + version +
                    ", but this module was built with version " + built_version() +
                    "; install both from one release";
        return problem().c_str();
    }
    the_api = api;
    return nullptr;
}

#else

const char *load_installed_library() {
    return the_api.dynamo_runtime_create != nullptr
               ? nullptr
               : "loading the library on Windows is not done yet";
}

#endif

}  // namespace dynamo::python
