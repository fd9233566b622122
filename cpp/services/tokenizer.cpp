// SPDX-License-Identifier: Apache-2.0
#include "services/tokenizer.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "base/schema.hpp"
#include "base/utf8.hpp"
#include "runtime/body.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class = "dynamo_llm.runtime.engines.tokenizer:TokenizerEngine";

// The runtime checks the members of the objects.
constexpr std::array config_keys = {
    Key{"model", Type::string, ""},
    Key{"python", Type::object, ""},
    Key{"trust_request_chat_template", Type::boolean, ""},
    Key{"templates", Type::object, ""},
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
}

}  // namespace

RuntimeConfig Tokenizer::parse_config(std::string_view text) {
    Json object =
        json::parse_object(json::without_bom(text), "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    object["engine"] = engine_class;
    return RuntimeConfig::parse(json::dump(object));
}

Tokenizer::Tokenizer(const RuntimeConfig &config) : service_("tokenizer", config) {
    const json::OrderedJson info = service_.info();
    largest_id_ = info.at("largest_token_id").get<std::uint32_t>();
    info_ = json::dump(info);
}

// Sends a command as the body of a request to an engine that answers with text. Requests one whole answer, so that
// the stream's capacity does not limit it.
std::shared_ptr<Response> Tokenizer::ask(std::string command) const {
    Body body;
    body.text = std::move(command);
    body.kind = BodyKind::completion;
    body.stream = false;
    return service_.ask(std::move(body));
}

std::vector<std::uint32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
    if (const std::size_t at = invalid_utf8_at(text); at != text.npos) {
        reject("text is not UTF-8: its byte " + std::to_string(at) + " does not fit in");
    }
    const Json command = {{"encode", text}, {"add_special_tokens", add_special_tokens}};
    return ask(json::dump(command))->token_ids.to_vector();
}

std::string Tokenizer::decode(std::span<const std::uint32_t> ids, bool skip_special_tokens) const {
    require_ids(ids);
    const Json command = {{"decode", ids}, {"skip_special_tokens", skip_special_tokens}};
    return std::string(ask(json::dump(command))->text.view());
}

std::string Tokenizer::apply_template(std::string_view chat_json) const {
    const Body chat = Body::parse(chat_json);
    if (chat.kind != BodyKind::chat) {
        throw Failure(DYNAMO_ERROR_INVALID_REQUEST,
                      "a chat template takes the body of a chat, with \"messages\"");
    }
    // Inserts the text unparsed: a chat template may print objects, so the order of their keys must be kept.
    return std::string(ask("{\"chat\": " + chat.text + "}")->text.view());
}

void Tokenizer::require_ids(std::span<const std::uint32_t> ids) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] > largest_id_) {
            reject("ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                   ", but the tokenizer's token ids are from 0 to " + std::to_string(largest_id_));
        }
    }
}

}  // namespace dynamo
