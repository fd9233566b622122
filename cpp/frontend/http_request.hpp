// SPDX-License-Identifier: Apache-2.0
// The HTTP request for an OpenAI body.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace dynamo::frontend {

// A model that the frontend serves. 0: a number is not known.
struct ServedModel {
    std::string name;  // the frontend's
    std::uint64_t context_length = 0;
    std::uint64_t vocab_size = 0;
    // Keys of the bodies of a model that only the frontend serves: "prompt", "input". Empty: Python can answer, too.
    std::set<std::string, std::less<>> only_for = {};
    bool is_only_there() const noexcept { return !only_for.empty(); }
};

struct HttpRequest {
    std::string bytes;
    bool is_embedding = false;   // the response is one JSON object, and no stream of events
    bool is_only_there = false;  // as of the model
};

// What requests to a frontend need to know.
struct Target {
    int port = 0;
    // Milliseconds without an answer after which Python takes over a request; 0: no limit.
    std::int64_t silence_ms = 0;
    // The model of requests that name none; empty: such a request is for nobody here.
    std::string default_model;
    // By the name that requests use.
    std::map<std::string, ServedModel, std::less<>> models;
};

// Returns the request. fields: further header fields, each with its line end. Returns nullopt if the frontend would answer otherwise than the library's own
// pipeline, or may do so: the body has a key or a value that it does not take or check, or its model is not there.
std::optional<HttpRequest> http_request(const Target &target, std::string_view fields,
                                        std::string_view body_json);

}  // namespace dynamo::frontend
