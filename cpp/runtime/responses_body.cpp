// SPDX-License-Identifier: Apache-2.0
#include "runtime/responses_body.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace dynamo::responses_body {
namespace {

using json::OrderedJson;

constexpr Key optional(const char *name, Type type) {
    return or_null({name, type, ""});
}

constexpr std::array keys = {
    Key{"input", Type::string_or_array, ""},
    Key{"task", Type::string, ""},
    optional("background", Type::boolean),
    optional("conversation", Type::string_or_object),
    optional("include", Type::array),
    optional("instructions", Type::string),
    or_null({"max_output_tokens", Type::integer, "", 0, 4294967295.0}),
    or_null({"max_tool_calls", Type::integer, "", 0, 4294967295.0}),
    optional("metadata", Type::object),
    optional("parallel_tool_calls", Type::boolean),
    optional("previous_response_id", Type::string),
    optional("prompt", Type::object),
    optional("prompt_cache_key", Type::string),
    optional("prompt_cache_options", Type::object),
    optional("prompt_cache_retention", Type::string),
    optional("reasoning", Type::object),
    optional("safety_identifier", Type::string),
    optional("service_tier", Type::string),
    optional("store", Type::boolean),
    optional("text", Type::object),
    optional("tool_choice", Type::string_or_object),
    optional("tools", Type::array),
    or_null({"top_logprobs", Type::integer, "", 0, 20}),
    optional("truncation", Type::string),
    optional("chat_template_kwargs", Type::object),
};

// Of the keys above, those that a chat has with the same meaning.
constexpr std::array<std::string_view, 7> keys_of_chats = {
    "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "safety_identifier",   "service_tier",     "chat_template_kwargs"};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_REQUEST, message);
}

[[noreturn]] void refuse(const std::string &message) {
    throw Failure(DYNAMO_ERROR_NOT_SUPPORTED, message);
}

// Returns the value of a key; nullptr if it is absent or null.
const OrderedJson *given(const OrderedJson &object, const char *key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

// Whether a value is this string. (nlohmann's == constructs a value first, which ends the process without memory.)
bool is_text(const OrderedJson &value, std::string_view text) {
    const auto *const own = value.get_ptr<const std::string *>();
    return own != nullptr && *own == text;
}

// Returns a string that must be given. `where` is the path of its object for messages, with a dot at its end.
const std::string &text_at(const OrderedJson &object, const char *key, const std::string &where) {
    const OrderedJson *const found = given(object, key);
    if (found == nullptr || !found->is_string()) {
        reject("\"" + where + key + "\" of the request must be a string");
    }
    return found->get_ref<const std::string &>();
}

// Returns the "type" of an object; `otherwise` if it is absent.
std::string type_of(const OrderedJson &object, const std::string &where, const char *otherwise) {
    if (!object.is_object()) {
        reject("\"" + where + "\" of the request must be an object");
    }
    return given(object, "type") == nullptr ? otherwise : text_at(object, "type", where + ".");
}

[[noreturn]] void refuse_type(const std::string &where, const std::string &type,
                              const char *supported) {
    refuse("\"" + where + "\" of the request has the type " + json::dump(OrderedJson(type)) +
           ", which is not supported; supported: " + supported);
}

void refuse_what_needs_a_service(const OrderedJson &body) {
    const auto refuse_key = [](const char *key, const char *instead) {
        refuse(std::string("\"") + key + "\" of the request is not supported: " + instead);
    };
    constexpr const char *send_all =
        "responses are not stored; send the earlier items in \"input\" instead";
    for (const char *key : {"previous_response_id", "conversation"}) {
        if (given(body, key) != nullptr) {
            refuse_key(key, send_all);
        }
    }
    if (given(body, "prompt") != nullptr) {
        refuse_key("prompt", "prompts are not stored; send \"instructions\" and \"input\" instead");
    }
    if (const OrderedJson *const store = given(body, "store"); store != nullptr && *store == true) {
        refuse_key("store", "responses are not stored; leave it out, or send false");
    }
    if (const OrderedJson *const is_background = given(body, "background");
        is_background != nullptr && *is_background == true) {
        refuse_key("background",
                   "a request is answered while its caller waits; leave it out, or send false");
    }
    if (const OrderedJson *const include = given(body, "include");
        include != nullptr && !include->empty()) {
        refuse_key("include", "the answer has no further parts; leave it out");
    }
    if (given(body, "max_tool_calls") != nullptr) {
        refuse_key("max_tool_calls", "it limits built-in tools, of which there are none");
    }
    if (const OrderedJson *const count = given(body, "top_logprobs");
        count != nullptr && *count != 0) {
        refuse_key("top_logprobs", "send a chat with \"logprobs\" instead");
    }
    if (const OrderedJson *const truncation = given(body, "truncation");
        truncation != nullptr && !is_text(*truncation, "disabled")) {
        refuse_key("truncation", "\"disabled\" is the only value");
    }
}

std::size_t characters(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

// OpenAI's limits; the answer repeats the metadata in several events.
void check_metadata(const OrderedJson &metadata) {
    constexpr std::size_t most_pairs = 16;
    constexpr std::size_t longest_key = 64;
    constexpr std::size_t longest_value = 512;
    if (metadata.size() > most_pairs) {
        reject("\"metadata\" of the request has " + std::to_string(metadata.size()) +
               " pairs; at most " + std::to_string(most_pairs) + " are allowed");
    }
    for (const auto &[key, value] : metadata.items()) {
        if (characters(key) > longest_key) {
            reject("\"metadata\" of the request has a key of " + std::to_string(characters(key)) +
                   " characters; at most " + std::to_string(longest_key) + " are allowed");
        }
        const std::string where = "\"metadata." + key + "\" of the request ";
        if (!value.is_string()) {
            reject(where + "must be a string");
        }
        if (const std::size_t length = characters(value.get_ref<const std::string &>());
            length > longest_value) {
            reject(where + "has " + std::to_string(length) + " characters; at most " +
                   std::to_string(longest_value) + " are allowed");
        }
    }
}

// Converts a part of a content. A refusal, which only answers have, is a text for a chat.
OrderedJson part_of(const OrderedJson &part, const std::string &where, bool is_answer) {
    const std::string type = type_of(part, where, "");
    if (type == "input_text" || type == "output_text" || type == "text") {
        return {{"type", "text"}, {"text", text_at(part, "text", where + ".")}};
    }
    if (type == "refusal" && is_answer) {
        return {{"type", "text"}, {"text", text_at(part, "refusal", where + ".")}};
    }
    if (type == "input_image") {
        if (given(part, "file_id") != nullptr) {
            refuse("\"" + where +
                   ".file_id\" of the request is not supported: files are not stored; send an "
                   "\"image_url\" instead");
        }
        OrderedJson image = {{"url", text_at(part, "image_url", where + ".")}};
        if (const OrderedJson *const detail = given(part, "detail")) {
            image["detail"] = *detail;
        }
        return {{"type", "image_url"}, {"image_url", std::move(image)}};
    }
    if (type == "input_audio" && given(part, "input_audio") != nullptr) {
        return {{"type", "input_audio"}, {"input_audio", *given(part, "input_audio")}};
    }
    refuse_type(
        where, type,
        is_answer ? "output_text, refusal" : "input_text, output_text, input_image, input_audio");
}

// Converts the content of a message, or the output of a call: a text, or an array of parts. Texts alone become one
// text, which every chat template takes, if `joins` or if there is only one.
OrderedJson content_of(const OrderedJson &given_content, const std::string &where, bool joins,
                       bool is_answer = false) {
    if (given_content.is_string()) {
        return given_content;
    }
    if (!given_content.is_array()) {
        reject("\"" + where + "\" of the request must be a string or an array of parts");
    }
    OrderedJson parts = OrderedJson::array();
    std::string text;
    bool has_texts_only = true;
    for (std::size_t i = 0; i < given_content.size(); ++i) {
        OrderedJson part =
            part_of(given_content[i], where + "[" + std::to_string(i) + "]", is_answer);
        if (is_text(part["type"], "text")) {
            text += part["text"].get_ref<const std::string &>();
        } else {
            has_texts_only = false;
        }
        parts.push_back(std::move(part));
    }
    if (has_texts_only && (joins || parts.size() < 2)) {
        return text;
    }
    return parts;
}

// Builds the messages of a chat.
class Messages {
  public:
    void add_instructions(const OrderedJson &instructions) {
        list_.push_back({{"role", "system"}, {"content", instructions}});
    }

    void add_input(const OrderedJson &input) {
        if (input.is_string()) {
            list_.push_back({{"role", "user"}, {"content", input}});
            return;
        }
        if (input.empty()) {
            reject("\"input\" of the request is empty; it needs a text, or at least one item");
        }
        for (std::size_t i = 0; i < input.size(); ++i) {
            add_item(input[i], "input[" + std::to_string(i) + "]");
        }
        end_reasoning();
    }

    OrderedJson take() { return std::move(list_); }

  private:
    void add_item(const OrderedJson &item, const std::string &where) {
        const std::string type = type_of(item, where, "message");
        if (type == "message") {
            add_message(item, where);
        } else if (type == "function_call") {
            add_call(item, where + ".");
        } else if (type == "function_call_output") {
            const OrderedJson *const output = given(item, "output");
            if (output == nullptr) {
                reject("\"" + where + ".output\" of the request is missing");
            }
            end_reasoning();
            list_.push_back({{"role", "tool"},
                             {"tool_call_id", text_at(item, "call_id", where + ".")},
                             {"content", content_of(*output, where + ".output", true)}});
        } else if (type == "reasoning") {
            add_reasoning(item, where);
        } else {
            refuse_type(where, type, "message, function_call, function_call_output, reasoning");
        }
    }

    void add_message(const OrderedJson &item, const std::string &where) {
        const std::string &role = text_at(item, "role", where + ".");
        const OrderedJson *const content = given(item, "content");
        if (content == nullptr) {
            reject("\"" + where + ".content\" of the request is missing");
        }
        const bool is_answer = role == "assistant";
        OrderedJson message = {
            {"role", role},
            {"content", content_of(*content, where + ".content", is_answer, is_answer)}};
        if (is_answer) {
            move_reasoning(message);
        } else {
            end_reasoning();
        }
        list_.push_back(std::move(message));
    }

    // Calls of one turn are in one message, and in that of its text.
    void add_call(const OrderedJson &item, const std::string &where) {
        OrderedJson call = {{"id", text_at(item, "call_id", where)},
                            {"type", "function"},
                            {"function",
                             {{"name", text_at(item, "name", where)},
                              {"arguments", text_at(item, "arguments", where)}}}};
        if (list_.empty() || !is_text(list_.back()["role"], "assistant") || !reasoning_.empty()) {
            OrderedJson message = {{"role", "assistant"}, {"content", nullptr}};
            move_reasoning(message);
            list_.push_back(std::move(message));
        }
        list_.back()["tool_calls"].push_back(std::move(call));
    }

    void add_reasoning(const OrderedJson &item, const std::string &where) {
        if (given(item, "encrypted_content") != nullptr) {
            refuse("\"" + where +
                   ".encrypted_content\" of the request is not supported: reasoning is not "
                   "encrypted; send it as \"content\", or leave the item out");
        }
        const OrderedJson *const content = given(item, "content");
        for (std::size_t i = 0; content != nullptr && i < content->size(); ++i) {
            const std::string part = where + ".content[" + std::to_string(i) + "]";
            if (!content->is_array() || !(*content)[i].is_object()) {
                reject("\"" + where + ".content\" of the request must be an array of parts");
            }
            reasoning_ += text_at((*content)[i], "text", part + ".");
        }
    }

    // Reasoning that no item of its turn follows, such as that of a cut answer, is a message of its own.
    void end_reasoning() {
        if (!reasoning_.empty()) {
            OrderedJson message = {{"role", "assistant"}, {"content", ""}};
            move_reasoning(message);
            list_.push_back(std::move(message));
        }
    }

    // The reasoning belongs to the message of its turn that follows it.
    void move_reasoning(OrderedJson &message) {
        if (!reasoning_.empty()) {
            message["reasoning_content"] = std::exchange(reasoning_, {});
        }
    }

    OrderedJson list_ = OrderedJson::array();
    std::string reasoning_;
};

OrderedJson tools_of(const OrderedJson &tools) {
    OrderedJson result = OrderedJson::array();
    for (std::size_t i = 0; i < tools.size(); ++i) {
        const std::string where = "tools[" + std::to_string(i) + "]";
        const std::string type = type_of(tools[i], where, "");
        if (type != "function") {
            refuse_type(where, type, "function, whose calls the caller answers");
        }
        OrderedJson function = {{"name", text_at(tools[i], "name", where + ".")}};
        for (const char *key : {"description", "parameters", "strict"}) {
            if (const OrderedJson *const value = given(tools[i], key)) {
                function[key] = *value;
            }
        }
        result.push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    return result;
}

OrderedJson tool_choice_of(const OrderedJson &choice) {
    if (choice.is_string()) {
        return choice;
    }
    const std::string type = type_of(choice, "tool_choice", "");
    if (type != "function") {
        refuse_type("tool_choice", type, "function; or one of \"auto\", \"none\", \"required\"");
    }
    return {{"type", "function"},
            {"function", {{"name", text_at(choice, "name", "tool_choice.")}}}};
}

void check_members(const OrderedJson &object, const std::string &where,
                   std::initializer_list<std::string_view> known) {
    for (const auto &[key, value] : object.items()) {
        if (std::find(known.begin(), known.end(), key) == known.end() && !value.is_null()) {
            std::vector<std::string> names(known.begin(), known.end());
            reject_unknown(key, names, DYNAMO_ERROR_INVALID_REQUEST, "request", where);
        }
    }
}

void add_text_settings(OrderedJson &chat, const OrderedJson &text) {
    check_members(text, "text.", {"format", "verbosity"});
    if (const OrderedJson *const verbosity = given(text, "verbosity")) {
        chat["verbosity"] = *verbosity;
    }
    const OrderedJson *const format = given(text, "format");
    if (format == nullptr) {
        return;
    }
    const std::string type = type_of(*format, "text.format", "");
    if (type == "text" || type == "json_object") {
        chat["response_format"] = {{"type", type}};
    } else if (type == "json_schema") {
        OrderedJson schema = *format;
        schema.erase("type");
        chat["response_format"] = {{"type", type}, {"json_schema", std::move(schema)}};
    } else {
        refuse_type("text.format", type, "text, json_object, json_schema");
    }
}

void add_reasoning_settings(OrderedJson &chat, const OrderedJson &reasoning) {
    check_members(reasoning, "reasoning.", {"effort", "summary", "generate_summary"});
    for (const char *key : {"summary", "generate_summary"}) {
        if (given(reasoning, key) != nullptr) {
            refuse(std::string("\"reasoning.") + key +
                   "\" of the request is not supported: reasoning is not summarized; leave it out");
        }
    }
    if (const OrderedJson *const effort = given(reasoning, "effort")) {
        chat["reasoning_effort"] = *effort;
    }
}

}  // namespace

std::span<const Key> own_keys() {
    return keys;
}

OrderedJson to_chat(const OrderedJson &body) {
    refuse_what_needs_a_service(body);
    if (const OrderedJson *const metadata = given(body, "metadata")) {
        check_metadata(*metadata);
    }
    Messages messages;
    if (const OrderedJson *const instructions = given(body, "instructions")) {
        messages.add_instructions(*instructions);
    }
    messages.add_input(body["input"]);
    OrderedJson chat = {{"messages", messages.take()}};
    for (const auto &[key, value] : body.items()) {
        const auto has_name = [&key = key](const Key &one) { return key == one.name; };
        if (std::none_of(keys.begin(), keys.end(), has_name) ||
            std::find(keys_of_chats.begin(), keys_of_chats.end(), key) != keys_of_chats.end()) {
            chat[key] = value;
        }
    }
    if (const OrderedJson *const most = given(body, "max_output_tokens")) {
        chat["max_completion_tokens"] = *most;
    }
    if (const OrderedJson *const tools = given(body, "tools");
        tools != nullptr && !tools->empty()) {
        chat["tools"] = tools_of(*tools);
    }
    if (const OrderedJson *const choice = given(body, "tool_choice")) {
        chat["tool_choice"] = tool_choice_of(*choice);
    }
    if (const OrderedJson *const text = given(body, "text")) {
        add_text_settings(chat, *text);
    }
    if (const OrderedJson *const reasoning = given(body, "reasoning")) {
        add_reasoning_settings(chat, *reasoning);
    }
    return chat;
}

OrderedJson settings_of(const OrderedJson &body) {
    OrderedJson settings = {
        {"instructions", nullptr},
        {"max_output_tokens", nullptr},
        {"metadata", OrderedJson::object()},
        {"parallel_tool_calls", true},
        {"previous_response_id", nullptr},
        {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
        {"store", false},
        {"temperature", nullptr},
        {"text", {{"format", {{"type", "text"}}}}},
        {"tool_choice", "auto"},
        {"tools", OrderedJson::array()},
        {"top_p", nullptr},
        {"truncation", "disabled"},
        {"user", nullptr},
    };
    for (const auto &[key, value] : settings.items()) {
        if (const OrderedJson *const own = given(body, key.c_str())) {
            value = *own;
        }
    }
    return settings;
}

}  // namespace dynamo::responses_body
