// SPDX-License-Identifier: Apache-2.0
#include "engines/prompt.hpp"

#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.hpp"

namespace dynamo::engines {
namespace {

using json::Json;
using json::string_at;

std::string text_of(const Json &content) {
    if (content.is_string()) {
        return content.get<std::string>();
    }
    std::string text;
    if (content.is_array()) {
        for (const Json &part : content) {
            if (part.is_object() && is_text_part(string_at(part, "type"))) {
                text += string_at(part, "text");
            }
        }
    }
    return text;
}

bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

}  // namespace

Prompt Prompt::of(const Json &body, const char *engine) {
    Prompt prompt{"", std::numeric_limits<std::uint64_t>::max()};
    if (body.contains("input")) {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                      std::string("the engine \"") + engine + "\" makes no embeddings");
    }
    if (const auto n = body.find("n"); n != body.end() && n->is_number() && *n != 1) {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED, std::string("the engine \"") + engine +
                                                      "\" gives one choice; \"n\" must be 1");
    }
    if (const auto messages = body.find("messages"); messages != body.end()) {
        for (const Json &message : *messages) {
            if (message.value("role", "") == "user") {
                prompt.text = text_of(message.value("content", Json()));
            }
        }
    } else if (const Json &given = body.at("prompt"); given.is_string()) {
        prompt.text = given.get<std::string>();
    } else {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED, std::string("the engine \"") + engine +
                                                      "\" takes \"prompt\" as a string only");
    }
    for (const char *key : {"max_tokens", "max_completion_tokens"}) {
        if (const auto limit = body.find(key); limit != body.end() && limit->is_number()) {
            prompt.max_tokens = limit->get<std::uint64_t>();
        }
    }
    return prompt;
}

bool is_text_part(std::string_view type) {
    return type == "text" || type == "input_text" || type == "output_text";
}

std::size_t word_end(const std::string &text, std::size_t begin) {
    std::size_t end = begin;
    while (end < text.size() && is_space(text[end])) {
        ++end;
    }
    while (end < text.size() && !is_space(text[end])) {
        ++end;
    }
    return end;
}

}  // namespace dynamo::engines
