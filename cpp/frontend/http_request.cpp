// SPDX-License-Identifier: Apache-2.0
#include "frontend/http_request.hpp"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace dynamo::frontend {
namespace {

using Json = nlohmann::ordered_json;

// Tokens that a chat template may add, as an estimate that is too high: most add less than a hundred.
constexpr std::uint64_t most_of_template = 512;

bool is_number_in(const Json &value, double least, double most) {
    return value.is_number() && value.get<double>() >= least && value.get<double>() <= most;
}

// Keys that mean the same to both, with the values for which that is so. Not among them are "n", which the frontend ignores,
// log-probs, to which it adds alternatives without a text, "min_tokens", which it counts otherwise, and "stop", whose
// beginning it may let through.
bool is_same_to_both(std::string_view key, const Json &value) {
    if (key == "frequency_penalty" || key == "presence_penalty") {
        return is_number_in(value, -2, 2);
    }
    if (key == "temperature") {
        return is_number_in(value, 0, 2);
    }
    if (key == "top_p") {
        return is_number_in(value, 0.001, 1);
    }
    if (key == "min_p") {
        return is_number_in(value, 0, 0.999);
    }
    if (key == "repetition_penalty") {
        return is_number_in(value, 0.01, 2);
    }
    if (key == "max_completion_tokens" || key == "max_tokens") {
        return value.is_number_unsigned() && value >= 1;
    }
    if (key == "top_k") {
        return value.is_number_unsigned() && value >= 1 && value <= INT32_MAX;
    }
    if (key == "seed") {
        return value.is_number_unsigned() && value <= INT32_MAX;
    }
    return (key == "ignore_eos" && value.is_boolean()) || (key == "user" && value.is_string());
}

// Adds the bytes of a message's content, of which there are at least as many as tokens. Returns false if it is not text.
bool add_text(const Json &content, std::uint64_t &bytes) {
    if (content.is_string()) {
        bytes += content.get_ref<const std::string &>().size();
        return true;
    }
    return content.is_array() && std::all_of(content.begin(), content.end(), [&](const Json &part) {
               return part.is_object() && part.size() == 2 && part.value("type", "") == "text" &&
                      part.contains("text") && part["text"].is_string() &&
                      add_text(part["text"], bytes);
           });
}

bool is_plain_chat(const Json &messages, std::uint64_t &bytes) {
    bytes = most_of_template;
    return messages.is_array() && !messages.empty() &&
           std::all_of(messages.begin(), messages.end(), [&](const Json &message) {
               return message.is_object() && message.size() == 2 && message.contains("role") &&
                      message["role"].is_string() && message.contains("content") &&
                      add_text(message["content"], bytes);
           });
}

// One prompt: a text, or token ids of the model.
bool is_plain_prompt(const Json &prompt, std::uint64_t vocab_size, std::uint64_t &tokens) {
    tokens = prompt.size();
    if (prompt.is_string()) {
        tokens = prompt.get_ref<const std::string &>().size() + 1;  // and a token at the beginning
        return tokens > 1;
    }
    return prompt.is_array() && !prompt.empty() &&
           std::all_of(prompt.begin(), prompt.end(),
                       [&](const Json &id) { return id.is_number_unsigned() && id < vocab_size; });
}

bool is_one(const Json &value) {
    return value.is_number_integer() && value == 1;
}

// Whether a prompt of at most so many tokens and the answer fit into the context, if its length is known.
bool surely_fits(const Json &body, std::uint64_t prompt_tokens, std::uint64_t context_length) {
    std::uint64_t answer = 1;
    for (const char *const key : {"max_tokens", "max_completion_tokens"}) {
        answer = std::max(answer, body.value(key, std::uint64_t{0}));
    }
    return context_length == 0 ||
           (answer <= context_length && prompt_tokens <= context_length - answer);
}

// The body for the frontend, and its path; no path: Python answers.
struct Sent {
    Json body = Json::object();
    const char *path = nullptr;
};

// Embeddings as lists of numbers. Others are for Python, which converts or refuses them.
Sent embedding_request(Json &body) {
    Sent sent;
    for (auto &[key, value] : body.items()) {
        if (value.is_null() || key == "model" || (key == "encoding_format" && value == "float")) {
            continue;
        }
        if (key != "input" && key != "user") {
            return {};
        }
        sent.body[key] = std::move(value);
    }
    sent.path = "/v1/embeddings";
    return sent;
}

// A chat or a completion, always as a stream.
Sent text_request(Json &body, const ServedModel &model) {
    Sent sent;
    std::uint64_t prompt_tokens = 0;
    const std::uint64_t vocab_size =
        model.vocab_size == 0 && model.is_only_there() ? UINT32_MAX : model.vocab_size;
    for (auto &[key, value] : body.items()) {
        if (value.is_null() || key == "model" || key == "stream" || key == "stream_options") {
            continue;
        }
        if (key == "messages" && is_plain_chat(value, prompt_tokens)) {
            sent.path = "/v1/chat/completions";
        } else if (key == "prompt" && is_plain_prompt(value, vocab_size, prompt_tokens)) {
            sent.path = "/v1/completions";
        } else if (key == "n" && is_one(value)) {
            continue;
        } else if (!is_same_to_both(key, value)) {
            return {};
        }
        sent.body[key] = std::move(value);
    }
    // Without a number of tokens, a completion has 16 of them, and one of the library the rest of the context.
    if (sent.body.contains("prompt") && !sent.body.contains("max_tokens")) {
        return {};
    }
    if (!model.is_only_there() && !surely_fits(sent.body, prompt_tokens, model.context_length)) {
        return {};
    }
    sent.body["stream"] = true;
    sent.body["stream_options"] = Json{{"include_usage", true}};
    sent.body["nvext"]["extra_fields"] = Json::array({"completion_token_ids"});
    return sent;
}

}  // namespace

std::optional<HttpRequest> http_request(const Target &target, std::string_view fields,
                                        std::string_view body_json) {
    Json body = Json::parse(body_json, nullptr, false);
    if (!body.is_object()) {
        return std::nullopt;
    }
    std::string asked = target.default_model;
    if (const auto named = body.find("model"); named != body.end() && !named->is_null()) {
        if (!named->is_string()) {
            return std::nullopt;
        }
        asked = named->get<std::string>();
    }
    const auto found = target.models.find(asked);
    if (found == target.models.end()) {
        return std::nullopt;
    }
    const ServedModel &model = found->second;
    const bool is_embedding = body.contains("input");
    if (model.is_only_there() ? model.only_for.count(is_embedding ? "input" : "prompt") == 0 ||
                                    body.contains("messages")
                              : is_embedding) {
        return std::nullopt;
    }
    Sent sent = is_embedding ? embedding_request(body) : text_request(body, model);
    if (sent.path == nullptr) {
        return std::nullopt;
    }
    sent.body["model"] = model.name;
    const std::string content = sent.body.dump();
    HttpRequest request;
    request.is_embedding = is_embedding;
    request.is_only_there = model.is_only_there();
    request.bytes.append("POST ")
        .append(sent.path)
        .append(
            " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ")
        .append(std::to_string(content.size()))
        .append("\r\n")
        .append(fields)
        .append("\r\n")
        .append(content);
    return request;
}

}  // namespace dynamo::frontend
