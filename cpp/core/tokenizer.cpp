// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "core/body.hpp"
#include "core/schema.hpp"
#include "core/utf8.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class = "dynamo_llm.runtime.engines.tokenizer:TokenizerEngine";

// The members of "python" are the runtime's.
constexpr std::array config_keys = {
    Key{"model", Type::string, ""},
    Key{"python", Type::object, ""},
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
}

}  // namespace

Config Tokenizer::parse_config(std::string_view text) {
    Json object =
        json::parse_object(json::without_bom(text), "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    object["engine"] = engine_class;
    return Config::parse(json::dump(object));
}

Tokenizer::Tokenizer(const Config &config) : service_("tokenizer", config) {
    const json::OrderedJson info = service_.info();
    largest_id_ = info.at("largest_token_id").get<std::uint32_t>();
    info_ = json::dump(info);
}

// A command is one more body for an engine of texts. Its answer comes whole, so that no bound of a
// stream applies.
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
    // As it is: a template may write out objects, and their keys have an order.
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
