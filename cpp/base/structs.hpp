// SPDX-License-Identifier: Apache-2.0
// Reads and writes public structs that may grow. The caller sets the size that it was compiled with; each side
// reads and writes no more than the smaller of the two sizes (docs/abi.md).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "base/error.hpp"
#include "dynamo_llm/engine.h"
#include "dynamo_llm/kv_events.h"
#include "dynamo_llm/router.h"
#include "dynamo_llm/worker.h"

namespace dynamo::structs {

// A public struct's name, and its size in the first release.
template <class Struct>
struct Released;

// `last` is the struct's last member in the first release. Never change one of these lines: programs built against
// that release pass that size.
#define DYNAMO_FIRST_RELEASED(type, last)                                                    \
    template <>                                                                              \
    struct Released<type> {                                                                  \
        static constexpr const char *name = #type;                                           \
        static constexpr std::size_t first_size = offsetof(type, last) + sizeof(type::last); \
    }

DYNAMO_FIRST_RELEASED(dynamo_engine_t, stop);
DYNAMO_FIRST_RELEASED(dynamo_engine_library_t, user);
DYNAMO_FIRST_RELEASED(dynamo_chunk_t, logprobs_json);
DYNAMO_FIRST_RELEASED(dynamo_push_t, status);
DYNAMO_FIRST_RELEASED(dynamo_usage_t, completion_tokens);
DYNAMO_FIRST_RELEASED(dynamo_timing_t, total_us);
DYNAMO_FIRST_RELEASED(dynamo_event_t, status);
DYNAMO_FIRST_RELEASED(dynamo_progress_t, model);
DYNAMO_FIRST_RELEASED(dynamo_tool_call_t, arguments);
DYNAMO_FIRST_RELEASED(dynamo_logprob_t, alternative_count);
DYNAMO_FIRST_RELEASED(dynamo_worker_load_t, kv_used_blocks);
DYNAMO_FIRST_RELEASED(dynamo_kv_stored_t, cache_salt);
DYNAMO_FIRST_RELEASED(dynamo_kv_event_t, removed_count);
DYNAMO_FIRST_RELEASED(dynamo_route_options_t, constraints_json);
DYNAMO_FIRST_RELEASED(dynamo_selection_t, token_count);
#undef DYNAMO_FIRST_RELEASED

template <class Struct>
[[noreturn]] void reject_size(std::size_t size, const std::string &name) {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, name + " is " + std::to_string(size) +
                                                     "; set it to sizeof(" +
                                                     Released<Struct>::name + ")");
}

// Throws Failure with INVALID_ARGUMENT unless a caller's struct has at least the members of the first
// release. `name` is the name of the size member, for the message.
template <class Struct>
void require_size(std::size_t size, const std::string &name) {
    if (size < Released<Struct>::first_size) {
        reject_size<Struct>(size, name);
    }
}

// Returns a caller's struct with all members: `given` itself, or `copy`, in which the members it lacks are zero.
template <class Struct>
const Struct &complete(const Struct &given, std::size_t size, Struct &copy) noexcept {
    if (size >= sizeof copy) {
        return given;
    }
    std::memcpy(&copy, &given, size);
    return copy;
}

// Rejects an argument `name` that is NULL or too small. Not inlined into the functions for tokens.
template <class Struct>
[[noreturn, gnu::cold, gnu::noinline]] void reject(const Struct *given, const char *name) {
    if (given == nullptr) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, std::string(name) + " is NULL");
    }
    reject_size<Struct>(given->struct_size, std::string(name) + "->struct_size");
}

// Returns the size that the caller set in the argument `name`. Throws Failure with INVALID_ARGUMENT.
template <class Struct>
std::size_t size_of(const Struct *given, const char *name) {
    if (given == nullptr || given->struct_size < Released<Struct>::first_size) {
        reject(given, name);
    }
    return given->struct_size;
}

// Copies a caller's struct. Members that it lacks become zero. Throws Failure with INVALID_ARGUMENT.
template <class Struct>
Struct read(const Struct *given, const char *name) {
    Struct copy{};
    std::memcpy(&copy, given, std::min(size_of(given, name), sizeof copy));
    return copy;
}

// Fills the members that a caller's struct has. Throws Failure with INVALID_ARGUMENT.
template <class Struct>
void write(Struct *wanted, Struct filled, const char *name) {
    filled.struct_size = size_of(wanted, name);
    std::memcpy(wanted, &filled, std::min(filled.struct_size, sizeof filled));
}

// Zeroes the members of a caller's struct. Does nothing for NULL or an invalid size. Does not throw.
template <class Struct>
void clear(Struct *wanted) noexcept {
    const std::size_t size = wanted == nullptr ? 0 : wanted->struct_size;
    if (size >= Released<Struct>::first_size) {
        Struct cleared{};
        cleared.struct_size = size;
        std::memcpy(wanted, &cleared, std::min(size, sizeof cleared));
    }
}

}  // namespace dynamo::structs
