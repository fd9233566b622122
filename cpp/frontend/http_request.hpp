// SPDX-License-Identifier: Apache-2.0
// The HTTP request for an OpenAI body.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace dynamo::frontend {

// What requests to a frontend need to know.
struct Target {
    int port = 0;
    // Paths that only this process knows, which keep other processes out.
    std::string chat_path;
    std::string completion_path;
    // Milliseconds without an answer after which Python takes over a request; 0: no limit.
    std::int64_t silence_ms = 0;
    // The model of requests that name none; empty: such a request is for nobody here.
    std::string default_model;
    // By the name that requests use, the name that the frontend uses.
    std::map<std::string, std::string, std::less<>> models;
};

// Returns the bytes of the request. fields: further header fields, each with its line end. Returns nullopt if the frontend would answer otherwise than the library's own
// pipeline: the body has a key or a value that it does not take, or its model is not there.
std::optional<std::string> http_request(const Target &target, std::string_view fields,
                                        std::string_view body_json);

}  // namespace dynamo::frontend
