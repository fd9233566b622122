// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <locale>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../../dynamo_llm.h"

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif

#if defined(__cpp_impl_coroutine) && defined(__cpp_lib_coroutine)
/** Defined if AsyncRequest is available. */
#define DYNAMO_LLM_HAS_COROUTINES 1
#include <coroutine>
#endif
#if defined(__cpp_lib_jthread)
/** Defined if Request::cancel_on() is available. */
#define DYNAMO_LLM_HAS_STOP_TOKEN 1
#include <stop_token>
#endif

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define DYNAMO_LLM_NO_EXCEPTIONS
#endif

// One program may have files that were compiled with different options. If an option changes what functions do
// (exceptions), the contents of a vtable (RTTI), or the size of containers (libstdc++'s debug mode), everything here
// gets another name, so that the linker cannot merge the variants. Other options, such as the language standard, do
// not change this header.
/** @cond */
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
#define DYNAMO_LLM_ERRORS returning
#else
#define DYNAMO_LLM_ERRORS throwing
#endif
#if defined(__cpp_rtti) || defined(__GXX_RTTI) || defined(_CPPRTTI)
#define DYNAMO_LLM_BEGIN_RTTI
#define DYNAMO_LLM_END_RTTI
#else
#define DYNAMO_LLM_BEGIN_RTTI inline namespace without_rtti {
#define DYNAMO_LLM_END_RTTI }
#endif
#if defined(_GLIBCXX_DEBUG)
#define DYNAMO_LLM_BEGIN_CONTAINERS inline namespace checked_containers {
#define DYNAMO_LLM_END_CONTAINERS }
#else
#define DYNAMO_LLM_BEGIN_CONTAINERS
#define DYNAMO_LLM_END_CONTAINERS
#endif
#define DYNAMO_LLM_BEGIN                 \
    namespace dynamo_llm {               \
    inline namespace DYNAMO_LLM_ERRORS { \
    DYNAMO_LLM_BEGIN_RTTI DYNAMO_LLM_BEGIN_CONTAINERS
#define DYNAMO_LLM_END                            \
    DYNAMO_LLM_END_CONTAINERS DYNAMO_LLM_END_RTTI \
    }                                             \
    }
/** @endcond */
