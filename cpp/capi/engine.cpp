// SPDX-License-Identifier: Apache-2.0
#include "dynamo_llm/engine.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "core/engine_registry.hpp"
#include "core/request.hpp"
#include "core/utf8.hpp"
#include "engines/native.hpp"

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
        error.detail.clear();  // the status is what counts: a stream must end
    }
    return error;
}

// Takes the stream from the engine: the handle is stale from here on, whatever else happens.
std::shared_ptr<Request> give_up(dynamo_stream_t *stream) {
    Held<EngineStream> held(stream);
    if (!close_handle<EngineStream>(stream)) {
        throw Failure(DYNAMO_ERROR_INVALID_HANDLE, "the stream was finished or failed before");
    }
    return request_of(*held).shared_from_this();
}

[[noreturn]] void reject_ended() {
    throw Failure(DYNAMO_ERROR_CANCELLED,
                  "the request ended on the caller's side; finish the stream");
}

// DYNAMO_OK, PENDING if the stream is full, or CANCELLED if it ended on the caller's side. Throws Failure.
std::int32_t push(dynamo_stream_t *stream, const dynamo_chunk_t *chunk) {
    Held<EngineStream> held(stream);
    capi::not_null(chunk, "chunk");
    if (chunk->struct_size < offsetof(dynamo_chunk_t, logprobs_json) + sizeof(char *)) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "chunk.struct_size is " +
                                                         std::to_string(chunk->struct_size) +
                                                         "; set it to sizeof(dynamo_chunk_t)");
    }
    const dynamo_chunk_t *whole = chunk;
    dynamo_chunk_t known{};
    if (chunk->struct_size < sizeof known) {  // of an engine that was built with an older header
        std::memcpy(&known, chunk, chunk->struct_size);
        whole = &known;
    }
    switch (request_of(*held).push(*whole)) {
        case Stream::Pushed::ok:
            return DYNAMO_OK;
        case Stream::Pushed::full:
            return DYNAMO_PENDING;
        default:
            return DYNAMO_ERROR_CANCELLED;
    }
}

std::optional<Usage> usage_of(const dynamo_usage_t *usage) {
    if (usage == nullptr) {
        return std::nullopt;
    }
    dynamo_usage_t known{};
    std::memcpy(&known, usage, std::min(usage->struct_size, sizeof known));
    return Usage{known.prompt_tokens, known.completion_tokens, known.cached_tokens};
}

}  // namespace

int32_t dynamo_engine_register(const char *name, const dynamo_engine_t *engine, void *user,
                               dynamo_release_callback_t release) {
    return status_of([&] {
        engines::register_native();  // so that nobody takes their names
        engine_registry::add(name, engine, user, release);
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
        if (push_size < offsetof(dynamo_push_t, status) + sizeof pushes->status) {
            throw Failure(
                DYNAMO_ERROR_INVALID_ARGUMENT,
                "push_size is " + std::to_string(push_size) + "; set it to sizeof(dynamo_push_t)");
        }
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
        Held<EngineStream> held(stream);
        if (!request_of(*held).wait_for_space(capi::timeout(timeout_ms))) {
            return DYNAMO_PENDING;
        }
        if (request_of(*held).has_ended()) {
            reject_ended();
        }
        return DYNAMO_OK;
    });
}

int32_t dynamo_stream_is_cancelled(dynamo_stream_t *stream) {
    bool has_ended = false;
    const std::int32_t status = status_of([&] {
        has_ended = request_of(*Held<EngineStream>(stream)).has_ended_before_push();
        return DYNAMO_OK;
    });
    return status == DYNAMO_OK ? static_cast<std::int32_t>(has_ended) : status;
}

int32_t dynamo_stream_remaining(dynamo_stream_t *stream, int64_t *remaining_ms) {
    return status_of([&] {
        Held<EngineStream> held(stream);
        *capi::not_null(remaining_ms, "remaining_ms") = request_of(*held).remaining_ms();
        return DYNAMO_OK;
    });
}

int32_t dynamo_stream_finish(dynamo_stream_t *stream, const char *finish_reason,
                             const dynamo_usage_t *usage) {
    return status_of([&] {
        give_up(stream)->finish(finish_reason, usage_of(usage));
        return DYNAMO_OK;
    });
}

int32_t dynamo_stream_fail(dynamo_stream_t *stream, int32_t status, const char *message,
                           const char *detail_json) {
    return status_of([&] {
        const Error error = engine_error(status, message, detail_json);
        give_up(stream)->fail(error);
        if (status >= 0) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                          "a stream fails with a negative status, not " + std::to_string(status));
        }
        return DYNAMO_OK;
    });
}
