// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/utf8.hpp"

namespace dynamo {
namespace {

using json::Json;
using json::OrderedJson;

// Returns an argument that must be a text.
std::string text_of(const char *text, const char *name) {
    if (text == nullptr) {
        reject_argument(std::string(name) + " is NULL");
    }
    const std::string_view view = text;
    if (const std::size_t at = invalid_utf8_at(view); at != view.npos) {
        reject_argument(std::string(name) + " is not UTF-8: the byte at position " +
                        std::to_string(at) + " is not valid; convert the text to UTF-8 first");
    }
    return std::string(view);
}

std::string name_of(const char *text, const char *name) {
    std::string result = text_of(text, name);
    if (result.empty()) {
        reject_argument(std::string(name) + " is empty");
    }
    return result;
}

// Returns a JSON text unchanged, so that its keys keep their order, once it is known to be valid.
std::string checked_json(const char *text, const char *name, Json &value) {
    std::string result = text_of(text, name);
    value = json::parse(result, name);
    return result;
}

std::string checked_object(const char *text, const char *name) {
    Json value;
    std::string result = checked_json(text, name, value);
    if (!value.is_object()) {
        reject_argument(std::string(name) + " must be a JSON object, not " +
                        json::type_name(value));
    }
    return result;
}

// Encodes bytes as base64.
std::string base64(std::string_view bytes) {
    constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            group <<= 8;
            group |= at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U;
        }
        for (std::size_t i = 0; i < 4; ++i) {
            text += at + i <= bytes.size() ? digits[(group >> (18 - 6 * i)) & 63U] : '=';
        }
    }
    return text;
}

// Returns the part of a message with an image or audio.
OrderedJson media_part(const std::string &type, std::string_view data) {
    const std::size_t slash = type.find('/');
    const std::string kind = type.substr(0, slash);
    const std::string format = slash == type.npos ? "" : type.substr(slash + 1);
    const bool is_name =
        !format.empty() &&
        format.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.+-") == format.npos;
    if (!is_name || (kind != "image" && kind != "audio")) {
        reject_argument(
            "type must be that of an image or of audio, such as \"image/png\" or "
            "\"audio/wav\", not \"" +
            type + "\"");
    }
    if (kind == "audio") {
        return {{"type", "input_audio"},
                {"input_audio", {{"data", base64(data)}, {"format", format}}}};
    }
    return {{"type", "image_url"},
            {"image_url", {{"url", "data:" + type + ";base64," + base64(data)}}}};
}

// A message: an object, or JSON text of one or several messages.
struct Message {
    OrderedJson object;
    std::string text;
    bool takes_media = false;
};

struct Tool {
    std::vector<std::string> names;  // several for a text of several tools
    OrderedJson object;              // unless it has a text
    std::string text;

    bool has_name(const std::string &name) const {
        return std::find(names.begin(), names.end(), name) != names.end();
    }
};

void write(std::string &out, const OrderedJson &object, const std::string &text) {
    out += text.empty() ? json::dump(object) : text;
}

template <class List>
void write_list(std::string &out, const List &list) {
    out += '[';
    for (const auto &item : list) {
        out += out.back() == '[' ? "" : ", ";
        write(out, item.object, item.text);
    }
    out += ']';
}

// Checks a value for "messages" or "tools".
void check_list(const std::string &key, const Json &value) {
    const bool has_objects =
        value.is_array() &&
        std::all_of(value.begin(), value.end(), [](const Json &one) { return one.is_object(); });
    if (!has_objects) {
        reject_argument("\"" + key + "\" must be an array of objects, not " +
                        (value.is_array() ? "an array with other values" : json::type_name(value)));
    }
}

// Returns the text of an array's elements.
std::string inside(const std::string &array) {
    const std::size_t first = array.find('[') + 1;
    return array.substr(first, array.rfind(']') - first);
}

OrderedJson call_of(const delta::ToolCall &call) {
    return {{"id", call.id},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

// Appends to the text of a key, which may be absent or null.
void extend(OrderedJson &message, const char *key, std::string_view text) {
    OrderedJson &value = message[key];
    if (!value.is_string()) {
        value = "";
    }
    value.get_ref<std::string &>() += text;
}

// Completes the message of an answer, whose last response this is.
void complete_answer(OrderedJson &message, const Response &last) {
    if (last.tool_calls == nullptr) {
        message.erase("reasoning_content");
        return;
    }
    OrderedJson calls = OrderedJson::array();
    for (const delta::ToolCall &call : *last.tool_calls) {
        calls.push_back(call_of(call));
    }
    message["tool_calls"] = std::move(calls);
    if (message["content"] == "") {
        message["content"] = nullptr;  // as in OpenAI's own answers
    }
}

// Appends a response to the message of its answer.
void extend_answer(OrderedJson &message, const Response &response) {
    extend(message, "content", response.text.view());
    if (const std::string_view reasoning = response.reasoning(); !reasoning.empty()) {
        extend(message, "reasoning_content", reasoning);
    }
    if (!response.finish_reason.empty()) {
        complete_answer(message, response);
    }
}

}  // namespace

struct Chat::State {
    std::vector<Message> messages;
    std::vector<Tool> tools;
    std::map<std::string, std::string> keys;  // all others, with their values as JSON
};

Chat::Chat() : state_(std::make_unique<State>()) {}

Chat::~Chat() = default;

void Chat::add_message(const char *role, const char *content) {
    OrderedJson message = {{"role", name_of(role, "role")},
                           {"content", text_of(content, "content")}};
    const std::lock_guard lock(mutex_);
    state_->messages.push_back({std::move(message), {}, true});
    open_answer_.reset();
}

void Chat::add_media(const char *type, const void *data, std::size_t size) {
    const std::string its_type = text_of(type, "type");
    if (data == nullptr || size == 0) {
        reject_argument(data == nullptr ? "data is NULL" : "size is 0");
    }
    OrderedJson part = media_part(its_type, {static_cast<const char *>(data), size});
    const std::lock_guard lock(mutex_);
    if (state_->messages.empty() || !state_->messages.back().takes_media) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE,
                      "the last message of the chat does not take images and audio; add one with "
                      "dynamo_chat_add_message() first");
    }
    OrderedJson &content = state_->messages.back().object["content"];
    if (content.is_string()) {
        OrderedJson text = {{"type", "text"}, {"text", content}};
        OrderedJson parts = OrderedJson::array();
        parts.push_back(std::move(part));
        parts.push_back(std::move(text));
        content = std::move(parts);
    } else {
        content.insert(content.end() - 1, std::move(part));
    }
}

void Chat::add_message_json(const char *message_json) {
    std::string message = checked_object(message_json, "message_json");
    const std::lock_guard lock(mutex_);
    state_->messages.push_back({nullptr, std::move(message)});
    open_answer_.reset();
}

void Chat::add_answer(const Response &response) {
    if (response.head->kind != BodyKind::chat) {
        reject_argument(
            "the response is not an answer to a chat; add a text with dynamo_chat_add_message()");
    }
    if (!response.has_choice) {
        return;
    }
    const std::lock_guard lock(mutex_);
    const bool begins = response.is_first || !response.head->stream;
    const bool continues = open_answer_ && open_answer_->id == response.head->id &&
                           open_answer_->index == response.index;
    if (!begins && !continues) {
        throw Failure(DYNAMO_ERROR_INVALID_STATE,
                      "the response continues an answer that is not the last message of the chat; "
                      "add all responses of one choice, in order, and nothing in between");
    }
    std::optional<OpenAnswer> open;
    if (response.finish_reason.empty()) {
        open = OpenAnswer{response.head->id, response.index};
    }
    if (begins) {
        OrderedJson message = {{"role", "assistant"}, {"content", ""}};
        extend_answer(message, response);
        state_->messages.push_back({std::move(message), {}});
    } else {
        extend_answer(state_->messages.back().object, response);
    }
    open_answer_ = std::move(open);
}

void Chat::add_tool_result(const char *tool_call_id, const char *content) {
    OrderedJson message = {{"role", "tool"},
                           {"tool_call_id", text_of(tool_call_id, "tool_call_id")},
                           {"content", text_of(content, "content")}};
    const std::lock_guard lock(mutex_);
    state_->messages.push_back({std::move(message), {}});
    open_answer_.reset();
}

void Chat::add_tool(const char *name, const char *description, const char *parameters_json) {
    Tool tool;
    tool.names = {name_of(name, "name")};
    OrderedJson function = {{"name", tool.names[0]}};
    if (description != nullptr) {
        function["description"] = text_of(description, "description");
    }
    if (parameters_json == nullptr) {
        function["parameters"] = {{"type", "object"}, {"properties", OrderedJson::object()}};
        tool.object = {{"type", "function"}, {"function", std::move(function)}};
    } else {
        const std::string parameters = checked_object(parameters_json, "parameters_json");
        std::string start = json::dump(function);
        start.pop_back();  // the bracket
        tool.text =
            "{\"type\":\"function\",\"function\":" + start + ",\"parameters\":" + parameters + "}}";
    }
    const std::lock_guard lock(mutex_);
    for (const Tool &other : state_->tools) {
        if (other.has_name(tool.names[0])) {
            reject_argument("the chat already has a tool \"" + tool.names[0] +
                            "\"; each needs its own name");
        }
    }
    state_->tools.push_back(std::move(tool));
}

void Chat::add_parameter(const char *tool, const char *name, const char *type,
                         const char *description, bool is_required) {
    constexpr std::array types = {"string", "integer", "number", "boolean"};
    const std::string its_tool = name_of(tool, "tool");
    const std::string its_name = name_of(name, "name");
    const std::string its_type = text_of(type, "type");
    if (std::find(types.begin(), types.end(), its_type) == types.end()) {
        reject_argument("type must be \"string\", \"integer\", \"number\" or \"boolean\", not \"" +
                        its_type +
                        "\"; for other types pass a JSON Schema to dynamo_chat_add_tool()");
    }
    OrderedJson schema = {{"type", its_type}};
    if (description != nullptr) {
        schema["description"] = text_of(description, "description");
    }
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(state_->tools.begin(), state_->tools.end(),
                                    [&](const Tool &one) { return one.has_name(its_tool); });
    if (found == state_->tools.end()) {
        reject_argument("the chat has no tool \"" + its_tool +
                        "\"; add it with dynamo_chat_add_tool() first");
    }
    if (!found->text.empty()) {
        reject_argument("the tool \"" + its_tool + "\" was added with a JSON Schema; put \"" +
                        its_name + "\" into that schema");
    }
    OrderedJson parameters = found->object["function"]["parameters"];
    if (parameters["properties"].contains(its_name)) {
        reject_argument("the tool \"" + its_tool + "\" already has a parameter \"" + its_name +
                        "\"");
    }
    parameters["properties"][its_name] = std::move(schema);
    if (is_required) {
        // push_back() to null would leave an invalid value if there is no memory for the array.
        OrderedJson required = parameters.value("required", OrderedJson::array());
        required.push_back(its_name);
        parameters["required"] = std::move(required);
    }
    found->object["function"]["parameters"] = std::move(parameters);
}

void Chat::set(const char *key, std::string value) {
    const std::string its_key = name_of(key, "key");
    if (its_key == "messages" || its_key == "tools") {
        reject_argument("\"" + its_key +
                        "\" must be an array of objects; use dynamo_chat_set_json()");
    }
    const std::lock_guard lock(mutex_);
    state_->keys[its_key] = std::move(value);
}

void Chat::set_string(const char *key, const char *value) {
    set(key, json::dump(Json(text_of(value, "value"))));
}

void Chat::set_number(const char *key, double value) {
    if (!std::isfinite(value)) {
        reject_argument(std::string("value must be a finite number, not ") +
                        (std::isnan(value) ? "NaN" : "an infinity"));
    }
    set(key, json::dump(Json(value)));
}

void Chat::set_integer(const char *key, std::int64_t value) {
    set(key, std::to_string(value));
}

void Chat::set_boolean(const char *key, bool value) {
    set(key, value ? "true" : "false");
}

void Chat::set_json(const char *key, const char *value_json) {
    const std::string its_key = name_of(key, "key");
    Json value;
    std::string text = checked_json(value_json, "value_json", value);
    const bool is_messages = its_key == "messages";
    const bool is_list = is_messages || its_key == "tools";
    if (is_list && !value.is_null()) {
        check_list(its_key, value);
    }
    const bool is_empty = value.is_null() || (is_list && value.empty());
    const std::lock_guard lock(mutex_);
    if (is_messages) {
        std::vector<Message> messages;
        if (!is_empty) {
            messages.push_back({nullptr, inside(text)});
        }
        state_->messages = std::move(messages);
        open_answer_.reset();
    } else if (is_list) {
        std::vector<Tool> tools;
        if (!is_empty) {
            tools.push_back({{}, nullptr, inside(text)});
            for (const Json &tool : value) {
                if (const Json *const function = json::given(tool, "function")) {
                    tools[0].names.emplace_back(json::string_at(*function, "name"));
                }
            }
        }
        state_->tools = std::move(tools);
    } else if (is_empty) {
        state_->keys.erase(its_key);
    } else {
        state_->keys[its_key] = std::move(text);
    }
}

std::string Chat::json(std::optional<bool> stream) const {
    const std::lock_guard lock(mutex_);
    std::string body = "{\"messages\": ";
    write_list(body, state_->messages);
    if (!state_->tools.empty()) {
        body += ", \"tools\": ";
        write_list(body, state_->tools);
    }
    for (const auto &[key, value] : state_->keys) {
        if (!stream || key != "stream") {
            body += ", " + json::dump(Json(key)) + ": " + value;
        }
    }
    if (stream) {
        body += *stream ? ", \"stream\": true" : ", \"stream\": false";
    }
    return body + '}';
}

}  // namespace dynamo
