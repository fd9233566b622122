// SPDX-License-Identifier: Apache-2.0
#include "base/callback.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "base/log.hpp"

#if defined(__GNUC__)
#include <cxxabi.h>
#endif

namespace dynamo {
namespace {

// The type of the exception that is being handled.
struct TypeName {
    TypeName() noexcept {
#if defined(__GNUC__)
        if (const std::type_info *const type = abi::__cxa_current_exception_type()) {
            int status = 0;
            mangled = type->name();
            readable = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
        }
#endif
    }
    ~TypeName() { std::free(readable); }
    TypeName(const TypeName &) = delete;
    const char *text() const noexcept { return readable != nullptr ? readable : mangled; }

    const char *mangled = "unknown";
    char *readable = nullptr;
};

}  // namespace

void CaughtException::describe() noexcept {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        is_out_of_memory_ = true;
        std::snprintf(text_, sizeof text_, "std::bad_alloc: out of memory");
    } catch (const std::exception &exception) {
        std::snprintf(text_, sizeof text_, "%s: %s", TypeName().text(), exception.what());
    } catch (...) {
        std::snprintf(text_, sizeof text_, "an exception of the type %s", TypeName().text());
    }
}

namespace callback {

void report(const char *function, const char *engine, const CaughtException &caught) {
    char text[512];
    if (engine == nullptr) {
        std::snprintf(text, sizeof text, "the %s threw %s; a callback must not throw", function,
                      caught.text());
    } else {
        std::snprintf(text, sizeof text,
                      "the %s function of the engine \"%s\" threw %s; it must return a status",
                      function, engine, caught.text());
    }
    log::write_always(DYNAMO_LOG_ERROR, "dynamo_llm.callback", text);
}

}  // namespace callback
}  // namespace dynamo
