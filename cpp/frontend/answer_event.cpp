// SPDX-License-Identifier: Apache-2.0
#include "frontend/answer_event.hpp"

#include <nlohmann/json.hpp>

#include "frontend/json_scanner.hpp"

namespace dynamo::frontend {
namespace {

constexpr std::uint64_t most_tokens =
    (std::uint64_t{1} << 53) - 1;  // JSON numbers are exact so far

// Returns the keys of a delta that are neither text nor role. Builds a tree, because they are rare.
std::string further_keys(std::string_view text) {
    const nlohmann::json tree = nlohmann::json::parse(text, nullptr, false);
    nlohmann::json further = nlohmann::json::object();
    try {
        for (const auto &[key, value] : tree.at("choices").at(0).at("delta").items()) {
            if (key != "role" && key != "content" && !value.is_null()) {
                further[key] = value;
            }
        }
    } catch (const nlohmann::json::exception &) {
        throw ProtocolError("an event of an answer is not valid JSON");
    }
    return further.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void AnswerEvent::read(std::string_view json_text) {
    text.clear();
    token_ids.clear();
    finish_reason.clear();
    delta_json.clear();
    usage.reset();
    is_error = false;
    JsonScanner json(json_text);
    bool has_further_keys = false;
    int choices = 0;
    const auto read_delta = [&](std::string_view key) {
        if (key == "content") {
            json.string(text);
            return;
        }
        has_further_keys = has_further_keys || (key != "role" && json.peek() != 'n');
        json.skip();
    };
    const auto read_choice = [&](std::string_view key) {
        if (key == "text") {
            json.string(text);
        } else if (key == "delta" && json.peek() == '{') {
            json.object(read_delta);
        } else if (key == "finish_reason") {
            json.string(finish_reason);
        } else if (key == "index") {
            if (const std::uint64_t index = json.number(UINT32_MAX, "\"index\""); index != 0) {
                throw ProtocolError("an event of an answer belongs to choice " +
                                    std::to_string(index) + ", but the request has one");
            }
        } else {
            json.skip();
        }
    };
    const auto read_usage = [&](std::string_view key) {
        if (key == "prompt_tokens") {
            usage->prompt_tokens = json.number(most_tokens, "\"prompt_tokens\"");
        } else if (key == "completion_tokens") {
            usage->completion_tokens = json.number(most_tokens, "\"completion_tokens\"");
        } else if (key == "prompt_tokens_details" && json.peek() == '{') {
            json.object([&](std::string_view detail) {
                if (detail == "cached_tokens") {
                    usage->cached_tokens = json.number(most_tokens, "\"cached_tokens\"");
                } else {
                    json.skip();
                }
            });
        } else {
            json.skip();
        }
    };
    const auto read_extension = [&](std::string_view key) {
        if (key == "completion_token_ids" && json.peek() == '[') {
            json.array([&] {
                token_ids.push_back(
                    static_cast<std::uint32_t>(json.number(UINT32_MAX, "a token id")));
            });
        } else {
            json.skip();
        }
    };
    json.object([&](std::string_view key) {
        if (key == "choices" && json.peek() == '[') {
            json.array([&] {
                if (++choices > 1) {
                    throw ProtocolError(
                        "an event of an answer has several choices, but the request has one");
                }
                json.object(read_choice);
            });
        } else if (key == "nvext" && json.peek() == '{') {
            json.object(read_extension);
        } else if (key == "usage" && json.peek() == '{') {
            usage.emplace();
            json.object(read_usage);
        } else {
            is_error = is_error || (key == "error" && json.peek() != 'n');
            json.skip();
        }
    });
    json.end();
    if (has_further_keys) {
        delta_json = further_keys(json_text);
    }
}

}  // namespace dynamo::frontend
