// SPDX-License-Identifier: Apache-2.0
#include "dynamo_llm/engine.h"

#include <memory>
#include <optional>

#include "base/structs.hpp"
#include "base/utf8.hpp"
#include "base/wait_check.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "engines/native.hpp"
#include "runtime/engine.hpp"
#include "runtime/engine_registry.hpp"
#include "runtime/request.hpp"
#include "runtime/start_progress.hpp"

using namespace dynamo;
using capi::status_of;

namespace {

Error engine_error(std::int32_t status, const char *message, const char *detail_json) {
    Error error;
    error.status = status < 0 ? status : static_cast<std::int32_t>(DYNAMO_ERROR_INTERNAL);
    error.layer = "engine";
    try {
        error.message = message == nullptr ? "the engine gave no reason" : as_utf8(message);
        error.detail = detail_json == nullptr ? "" : detail_json;
    } catch (const std::bad_alloc &) {
        error.detail.clear();  // keep the status: the stream must still end, even without a message
    }
    return error;
}

// Takes the stream from the engine. The handle is stale from here on, even if the caller fails afterwards.
std::shared_ptr<Request> give_up(dynamo_stream_t *stream) {
    HandleRef<EngineStream> held(stream);
    if (!close_handle<EngineStream>(stream)) {
        throw Failure(DYNAMO_ERROR_INVALID_HANDLE, "the stream was finished or failed before");
    }
    return request_of(*held).shared_from_this();
}

[[noreturn]] void reject_stale() {
    throw Failure(DYNAMO_ERROR_INVALID_HANDLE,
                  "not a valid stream: the engine refused the request, or finished or failed the "
                  "stream before");
}

[[noreturn]] void reject_ended() {
    throw Failure(DYNAMO_ERROR_CANCELLED,
                  "the request ended on the caller's side; finish the stream");
}

std::int32_t state_of(Stream::PushResult pushed) {
    switch (pushed) {
        case Stream::PushResult::ok:
            return DYNAMO_OK;
        case Stream::PushResult::full:
            return DYNAMO_PENDING;
        case Stream::PushResult::stale:
            reject_stale();
        default:
            return DYNAMO_ERROR_CANCELLED;
    }
}

// Returns DYNAMO_OK, PENDING if the stream is full, or CANCELLED if it ended on the caller's side. Throws Failure.
std::int32_t push(dynamo_stream_t *stream, const dynamo_chunk_t *chunk) {
    HandleRef<EngineStream> held(stream);
    const std::size_t size = structs::size_of(chunk, "chunk");
    if (size >= sizeof *chunk) {
        return state_of(request_of(*held).push(stream, *chunk));
    }
    dynamo_chunk_t copy{};
    return state_of(request_of(*held).push(stream, structs::complete(*chunk, size, copy)));
}

std::optional<Usage> usage_of(const dynamo_usage_t *usage) {
    if (usage == nullptr) {
        return std::nullopt;
    }
    // Accepts any struct_size, because the stream must end even if the engine set a wrong one.
    dynamo_usage_t copy{};
    const dynamo_usage_t &known = structs::complete(*usage, usage->struct_size, copy);
    return Usage{known.prompt_tokens, known.completion_tokens, known.cached_tokens};
}

}  // namespace

int32_t dynamo_engine_register(const char *name, const dynamo_engine_t *engine, void *user,
                               dynamo_release_callback_t release) {
    return status_of([&] {
        engines::register_native();  // reserves the names of the native engines
        engine_registry::add(name, structs::read(engine, "engine"), user, release);
        return DYNAMO_OK;
    });
}

int32_t dynamo_engine_unregister(const char *name) {
    return status_of([&] {
        engine_registry::remove(name);
        return DYNAMO_OK;
    });
}

int32_t dynamo_engine_error(int32_t status, const char *message, const char *detail_json) {
    try {
        last_error::set(engine_error(status, message, detail_json));
    } catch (...) {
        last_error::set_out_of_memory();
    }
    return last_error::status();
}

int32_t dynamo_engine_progress(const dynamo_progress_t *progress) {
    return status_of([&] {
        if (!Engine::is_starting()) {
            throw Failure(DYNAMO_ERROR_INVALID_STATE,
                          "dynamo_engine_progress() was called outside of an engine's start "
                          "function; call it there, in the thread that runs it");
        }
        dynamo_progress_t copy{};
        const dynamo_progress_t *const complete =
            progress == nullptr
                ? nullptr
                : &structs::complete(*progress, structs::size_of(progress, "progress"), copy);
        if (!start_progress::report(complete)) {
            throw Failure(DYNAMO_ERROR_CANCELLED,
                          "the creation of the runtime was cancelled; free what was loaded, and "
                          "return this status");
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_stream_push(dynamo_stream_t *stream, const dynamo_chunk_t *chunk) {
    return status_of([&]() -> std::int32_t {
        const std::int32_t status = push(stream, chunk);
        if (status == DYNAMO_ERROR_CANCELLED) {
            reject_ended();
        }
        return status;
    });
}

int32_t dynamo_stream_push_many(dynamo_push_t *pushes, size_t count, size_t push_size) {
    return status_of([&]() -> std::int32_t {
        if (count > 0) {
            capi::not_null(pushes, "pushes");
        }
        structs::require_size<dynamo_push_t>(push_size, "push_size");
        std::int32_t result = DYNAMO_OK;
        auto *bytes = reinterpret_cast<unsigned char *>(pushes);
        for (std::size_t i = 0; i < count; ++i, bytes += push_size) {
            auto &item = *reinterpret_cast<dynamo_push_t *>(bytes);
            item.status = status_of([&] { return push(item.stream, item.chunk); });
            if (item.status != DYNAMO_OK) {
                result = DYNAMO_PENDING;
            }
        }
        return result;
    });
}

int32_t dynamo_stream_wait(dynamo_stream_t *stream, int64_t timeout_ms) {
    return status_of([&]() -> std::int32_t {
        HandleRef<EngineStream> held(stream);
        if (timeout_ms != 0) {
            wait_check::require_allowed("dynamo_stream_wait()", false);
        }
        const std::int32_t status =
            state_of(request_of(*held).wait_until_writable(stream, capi::timeout(timeout_ms)));
        if (status == DYNAMO_ERROR_CANCELLED) {
            reject_ended();
        }
        return status;
    });
}

int32_t dynamo_stream_is_cancelled(dynamo_stream_t *stream) {
    bool has_ended = false;
    const std::int32_t status = status_of([&] {
        has_ended =
            state_of(request_of(*HandleRef<EngineStream>(stream)).state_before_push(stream)) ==
            DYNAMO_ERROR_CANCELLED;
        return DYNAMO_OK;
    });
    return status == DYNAMO_OK ? static_cast<std::int32_t>(has_ended) : status;
}

int32_t dynamo_stream_set_queued(dynamo_stream_t *stream, int32_t is_queued) {
    return status_of([&] {
        HandleRef<EngineStream> held(stream);
        return state_of(request_of(*held).set_queued(stream, is_queued != 0));
    });
}

int32_t dynamo_stream_remaining(dynamo_stream_t *stream, int64_t *remaining_ms) {
    return status_of([&] {
        HandleRef<EngineStream> held(stream);
        *capi::not_null(remaining_ms, "remaining_ms") = request_of(*held).remaining_ms(stream);
        return DYNAMO_OK;
    });
}

int32_t dynamo_stream_finish(dynamo_stream_t *stream, const char *finish_reason,
                             const dynamo_usage_t *usage) {
    return status_of([&] {
        give_up(stream)->finish(stream, finish_reason, usage_of(usage));
        return DYNAMO_OK;
    });
}

int32_t dynamo_stream_fail(dynamo_stream_t *stream, int32_t status, const char *message,
                           const char *detail_json) {
    return status_of([&] {
        const Error error = engine_error(status, message, detail_json);
        give_up(stream)->fail(stream, error);
        if (status >= 0) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                          "a stream fails with a negative status, not " + std::to_string(status));
        }
        return DYNAMO_OK;
    });
}
