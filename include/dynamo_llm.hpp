// SPDX-License-Identifier: Apache-2.0
/**
 * @file dynamo_llm.hpp
 * @brief LLM inference from C++: dynamo_llm.h with RAII, ranges, coroutines, and exceptions.
 *
 * A complete program body:
 *
 *     dynamo_llm::Runtime runtime;
 *     for (auto &response : runtime.send(dynamo_llm::Chat("What is a KV cache?"))) {
 *         std::cout << response.text() << std::flush;
 *     }
 *
 * Header-only: it needs dynamo_llm.h and nothing else, so you may copy it next to an installed C library and link that
 * library. It needs C++17; with C++20 it also has coroutines (AsyncRequest), std::stop_token, and ranges.
 *
 *  - Cost:     A Runtime, Request, Response, Queue, or Tokenizer is one C handle (Owner): move-only, and its functions
 *              call the C functions directly. Nothing is allocated or copied in between, unless a comment says so.
 *  - Texts:    Texts that C needs NUL-terminated are taken as std::string; a NUL byte inside one is
 *              DYNAMO_ERROR_INVALID_ARGUMENT.
 *  - Errors:   An error is thrown as Error, with all error details of the C interface. If exceptions are off, or
 *              DYNAMO_LLM_NO_EXCEPTIONS is defined, a function that can fail returns a Result instead, which must
 *              not be ignored (Returned<T> is either), and objects are made with create() functions, which exist in
 *              both modes. A create() from a configuration reports DYNAMO_ERROR_VERSION_MISMATCH if this header and the
 *              library do not match. Running out of memory in the C++ standard library is not handled.
 *  - Threads:  As in C, any thread may call any const function on an object that other threads use. As with every C++
 *              object, no other thread may use it while it is assigned to, moved from, or destroyed. (To destroy an
 *              object that others wait for, cancel() it first.)
 *  - Blocking: As in C, next(), recv(), and iteration wait for the answer; creating a Runtime waits for the model;
 *              functions of a Tokenizer wait for their result. All other functions return at once.
 *  - Times:    Any std::chrono duration, rounded up to milliseconds. As in the standard library, a negative one has
 *              already passed; `forever` never passes.
 *  - Views:    A std::string_view or TokenIds points into the object that it was obtained from.
 *
 * C functions without anything to own are not wrapped: call dynamo_version_string(), dynamo_abi_version(),
 * dynamo_config_schema(), and those for authors of engines directly.
 */
#ifndef DYNAMO_LLM_HPP
#define DYNAMO_LLM_HPP

#include "dynamo_llm.h"

// The parts of this header, in order. The build and installations have one file instead, which cmake/amalgamate.cmake
// joins; to join it without a build: cmake -DOUTPUT=dynamo_llm.hpp -P cmake/amalgamate.cmake
// clang-format off
#include "dynamo_llm/cpp/base.hpp"
#include "dynamo_llm/cpp/error.hpp"
#include "dynamo_llm/cpp/owner.hpp"
#include "dynamo_llm/cpp/time.hpp"
#include "dynamo_llm/cpp/json.hpp"
#include "dynamo_llm/cpp/parsed_json.hpp"
#include "dynamo_llm/cpp/config.hpp"
#include "dynamo_llm/cpp/response.hpp"
#include "dynamo_llm/cpp/media.hpp"
#include "dynamo_llm/cpp/body.hpp"
#include "dynamo_llm/cpp/queue.hpp"
#include "dynamo_llm/cpp/request.hpp"
#include "dynamo_llm/cpp/runtime.hpp"
#include "dynamo_llm/cpp/creation.hpp"
#include "dynamo_llm/cpp/tokenizer.hpp"
#include "dynamo_llm/cpp/log.hpp"
#include "dynamo_llm/cpp/async_request.hpp"
// clang-format on

#endif  // DYNAMO_LLM_HPP
