// SPDX-License-Identifier: Apache-2.0
#include "frontend/http_request.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace dynamo::frontend {
namespace {

using Json = nlohmann::ordered_json;

// Keys that mean the same to both, with all their values. "n" and log-probs are not among them: the frontend ignores
// the first, and adds alternatives without a text to the second.
constexpr std::array same_keys = {std::string_view("frequency_penalty"),
                                  std::string_view("ignore_eos"),
                                  std::string_view("max_completion_tokens"),
                                  std::string_view("max_tokens"),
                                  std::string_view("min_p"),
                                  std::string_view("min_tokens"),
                                  std::string_view("presence_penalty"),
                                  std::string_view("repetition_penalty"),
                                  std::string_view("seed"),
                                  std::string_view("stop"),
                                  std::string_view("temperature"),
                                  std::string_view("top_k"),
                                  std::string_view("top_p"),
                                  std::string_view("user")};

bool is_text(const Json &content) {
    return content.is_string() || content.is_null() ||
           (content.is_array() && std::all_of(content.begin(), content.end(), [](const Json &part) {
                return part.is_object() && part.value("type", "") == "text";
            }));
}

bool is_plain_chat(const Json &messages) {
    return messages.is_array() &&
           std::all_of(messages.begin(), messages.end(), [](const Json &message) {
               return message.is_object() && message.contains("content") &&
                      is_text(message["content"]) && !message.contains("tool_calls");
           });
}

// One prompt: a text, or token ids.
bool is_one_prompt(const Json &prompt) {
    return prompt.is_string() ||
           (prompt.is_array() && !prompt.empty() && prompt.front().is_number());
}

bool is_one(const Json &value) {
    return value.is_number_integer() && value == 1;
}

}  // namespace

std::optional<std::string> http_request(const Target &target, std::string_view fields,
                                        std::string_view body_json) {
    Json body = Json::parse(body_json, nullptr, false);
    if (!body.is_object()) {
        return std::nullopt;
    }
    Json sent = Json::object();
    std::string_view asked = target.default_model;
    std::string named;
    const std::string *path = nullptr;
    for (auto &[key, value] : body.items()) {
        if (value.is_null() || key == "stream" || key == "stream_options") {
            continue;  // the library's own: every answer streams to here
        }
        if (key == "model" && value.is_string()) {
            named = value.get<std::string>();
            asked = named;
            continue;
        }
        if (key == "messages" && is_plain_chat(value)) {
            path = &target.chat_path;
        } else if (key == "prompt" && is_one_prompt(value)) {
            path = &target.completion_path;
        } else if (key == "n" && is_one(value)) {
            continue;
        } else if (std::find(same_keys.begin(), same_keys.end(), key) == same_keys.end()) {
            return std::nullopt;
        }
        sent[key] = std::move(value);
    }
    const auto model = target.models.find(asked);
    if (path == nullptr || model == target.models.end()) {
        return std::nullopt;
    }
    sent["model"] = model->second;
    sent["stream"] = true;
    sent["stream_options"] = Json{{"include_usage", true}};
    sent["nvext"]["extra_fields"] = Json::array({"completion_token_ids"});
    const std::string content = sent.dump();
    std::string request = "POST " + *path +
                          " HTTP/1.1\r\n"
                          "Host: 127.0.0.1\r\n"
                          "Content-Type: application/json\r\n"
                          "Content-Length: " +
                          std::to_string(content.size()) + "\r\n";
    return request.append(fields).append("\r\n").append(content);
}

}  // namespace dynamo::frontend
