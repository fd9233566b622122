// SPDX-License-Identifier: Apache-2.0
// Sends requests to the HTTP servers of Dynamo's frontends in this process, and pushes what they stream: without
// Python, in one thread, for all runtimes.
//
// A request that a frontend does not answer with a stream of tokens is handed over to Python, which knows more: it waits
// for models, and explains errors. So nothing here is repeated after the first token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dynamo_llm/engine.h"

namespace dynamo::frontend::client {

// Called by the client's thread.
struct Callbacks {
    // A request that Python should answer. The stream is no longer the client's. Returns whether Python takes it. Must
    // not call the client.
    bool (*hand_over)(std::uint64_t instance, dynamo_stream_t *stream,
                      const std::string &request_id, const std::string &body_json);
    // The answer failed, and Python should end it with an error: an HTTP status, 0 for an answer that breaks the
    // protocol, and a text, which may be JSON. The stream is no longer the client's.
    void (*fail)(std::uint64_t instance, dynamo_stream_t *stream, int http_status,
                 std::string text);
};
void set_callbacks(const Callbacks &callbacks) noexcept;

// Sends the requests of an engine instance to this port of the loopback interface from now on: `target_json` is an object
// with "port", "default_model", "silence_ms", and "models": by the name in requests, objects with "name",
// "context_length", "vocab_size" (0 if not known), and "only_for" (see http_request.hpp). Replaces an earlier target. Throws std::exception
// if it is not that, or no thread can be started.
void set_target(std::uint64_t instance, std::string_view target_json);
// Returns the port that all connections come from, by which a server recognizes them: other users of the machine cannot
// bind it. 0 where there is no client. Throws std::exception.
std::uint16_t source_port();
// No more requests of this instance from now on; those in flight go on.
void remove_target(std::uint64_t instance);

// Takes a request. Returns false if it is not for the client: there is no target, the frontend would answer otherwise
// than Python, or the process has too few file descriptors. Does not block.
bool send(std::uint64_t instance, dynamo_stream_t *stream, std::string_view request_id,
          std::string_view body_json) noexcept;
// Cancels a request, or goes on with one whose stream was full. Returns false if it is not the client's.
bool cancel(dynamo_stream_t *stream) noexcept;
bool resume(dynamo_stream_t *stream) noexcept;

// Requests of the whole process that were answered to their end, and those that were handed over.
struct Counts {
    std::uint64_t answered = 0;
    std::uint64_t handed_over = 0;
};
Counts counts();

// Ends all requests with DYNAMO_ERROR_CLOSED, and takes no more: Python is shutting down, and the frontends with it.
void close(const char *message, bool is_exiting);

}  // namespace dynamo::frontend::client
