// SPDX-License-Identifier: Apache-2.0
#include "runtime/body.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.hpp"
#include "base/schema.hpp"
#include "base/utf8.hpp"
#include "runtime/request_keys.hpp"
#include "runtime/responses_body.hpp"

namespace dynamo {
namespace {

using json::given;
using json::Json;
using json::OrderedJson;
using json::string_at;

// The keys of OpenAI's API reference, followed by the extensions that vLLM, SGLang and Dynamo share. Ranges are
// OpenAI's.
constexpr Key any(const char *name) {
    return {name, Type::any, ""};
}
constexpr Key boolean(const char *name) {
    return or_null({name, Type::boolean, ""});
}
constexpr Key text(const char *name) {
    return or_null({name, Type::string, ""});
}
constexpr Key array(const char *name) {
    return or_null({name, Type::array, ""});
}
constexpr Key object(const char *name) {
    return or_null({name, Type::object, ""});
}
constexpr Key count(const char *name, double least, double most = 4294967295.0) {
    return or_null({name, Type::integer, "", least, most});
}
// Accepts any std::int64_t.
constexpr Key integer(const char *name) {
    return or_null({name, Type::integer, "", -9223372036854775808.0, 9223372036854775808.0});
}
// Engines have 32 bits for the scheduler's priority.
constexpr Key priority_key = or_null({"priority", Type::integer, "", -2147483648.0, 2147483647.0});
constexpr Key number(const char *name, double least, double most) {
    return or_null({name, Type::number, "", least, most});
}

#define DYNAMO_CHOICE_KEYS count("max_tokens", 0), count("n", 1, 128), object("response_format")

#define DYNAMO_SAMPLING_KEYS                                                                       \
    text("model"), number("frequency_penalty", -2, 2), number("presence_penalty", -2, 2),          \
        object("logit_bias"), integer("seed"), or_null({"stop", Type::string_or_array, ""}),       \
        boolean("stream"), object("stream_options"), number("temperature", 0, 2),                  \
        number("top_p", 0, 1), text("user"), count("top_k", -1), number("min_p", 0, 1),            \
        number("repetition_penalty", 0, 100), count("min_tokens", 0), boolean("ignore_eos"),       \
        array("stop_token_ids"), boolean("skip_special_tokens"),                                   \
        boolean("include_stop_str_in_output"), priority_key, object("nvext"), text("adapter"),     \
        text("traceparent"), text("tracestate"), object("structured_outputs"), any("guided_json"), \
        text("guided_regex"), text("guided_grammar"), array("guided_choice"), array("bad_words"),  \
        array("allowed_token_ids"), number("length_penalty", -100, 100),                           \
        count("truncate_prompt_tokens", -1), boolean("return_token_ids"), text("request_id"),      \
        text("cache_salt"), object("extra")

constexpr std::array chat_keys = {
    DYNAMO_SAMPLING_KEYS,
    DYNAMO_CHOICE_KEYS,
    Key{"messages", Type::array, ""},
    boolean("logprobs"),
    count("top_logprobs", 0, 20),
    count("max_completion_tokens", 0),
    array("tools"),
    array("documents"),
    or_null({"tool_choice", Type::string_or_object, ""}),
    boolean("parallel_tool_calls"),
    text("reasoning_effort"),
    any("metadata"),
    boolean("store"),
    text("service_tier"),
    array("modalities"),
    object("audio"),
    any("prediction"),
    object("web_search_options"),
    any("moderation"),
    array("functions"),
    or_null({"function_call", Type::string_or_object, ""}),
    text("prompt_cache_key"),
    text("prompt_cache_retention"),
    object("prompt_cache_options"),
    text("safety_identifier"),
    text("verbosity"),
    object("chat_template_kwargs"),
    text("chat_template"),
    boolean("add_generation_prompt"),
    boolean("continue_final_message"),
};

constexpr std::array completion_keys = {
    DYNAMO_SAMPLING_KEYS,     DYNAMO_CHOICE_KEYS,       Key{"prompt", Type::string_or_array, ""},
    count("logprobs", 0, 20), count("best_of", 1, 128), boolean("echo"),
    text("suffix"),
};

#define DYNAMO_POOLING_KEYS                                                                \
    text("model"), text("user"), object("nvext"), text("traceparent"), text("tracestate"), \
        text("request_id"), object("extra")

// What an "input" is for; without it, the input is embedded.
constexpr const char *tasks = "embed|classify|respond";
constexpr Key task_key = or_null(one_of(tasks, {"task", Type::string, ""}));

constexpr std::array embedding_keys = {
    DYNAMO_POOLING_KEYS,
    Key{"input", Type::string_or_array, ""},
    task_key,
    or_null(one_of("float|base64", {"encoding_format", Type::string, ""})),
    count("dimensions", 1),
};

// The following are those of vLLM's server; those of a rerank are Jina's and Cohere's, too.
constexpr std::array rerank_keys = {
    DYNAMO_POOLING_KEYS, Key{"query", Type::string, ""}, Key{"documents", Type::array, ""},
    count("top_n", 0),   boolean("return_documents"),    boolean("use_activation"),
};

constexpr std::array score_keys = {
    DYNAMO_POOLING_KEYS,
    Key{"text_1", Type::string_or_array, ""},
    Key{"text_2", Type::string_or_array, ""},
    Key{"queries", Type::string_or_array, ""},
    Key{"documents", Type::string_or_array, ""},
    Key{"items", Type::string_or_array, ""},
    Key{"data_1", Type::string_or_array, ""},
    Key{"data_2", Type::string_or_array, ""},
    boolean("use_activation"),
};

constexpr std::array classification_keys = {
    DYNAMO_POOLING_KEYS,
    Key{"input", Type::string_or_array, ""},
    task_key,
    boolean("use_activation"),
};

constexpr std::array sampling_keys = {DYNAMO_SAMPLING_KEYS};

std::span<const Key> responses_keys() {
    static const std::vector<Key> *const keys = [] {
        auto *const all = new std::vector<Key>(sampling_keys.begin(), sampling_keys.end());
        const std::span<const Key> own = responses_body::own_keys();
        all->insert(all->end(), own.begin(), own.end());
        return all;
    }();
    return *keys;
}

std::span<const Key> keys_of(BodyKind kind) {
    switch (kind) {
        case BodyKind::rerank:
            return rerank_keys;
        case BodyKind::score:
            return score_keys;
        case BodyKind::classification:
            return classification_keys;
        case BodyKind::responses:
            return responses_keys();
        case BodyKind::completion:
            return completion_keys;
        case BodyKind::embedding:
            return embedding_keys;
        default:
            return chat_keys;
    }
}

bool is_key_of_any_kind(std::string_view name) {
    const auto has = [&](std::span<const Key> keys) {
        return std::any_of(keys.begin(), keys.end(),
                           [&](const Key &key) { return name == key.name; });
    };
    return has(chat_keys) || has(completion_keys) || has(embedding_keys) || has(rerank_keys) ||
           has(score_keys) || has(classification_keys) || has(responses_keys());
}

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_REQUEST, message);
}

// Whether a message of an assistant has something instead of a content, which is then null or absent.
bool may_lack_content(const Json &message) {
    for (const std::string_view key : {"tool_calls", "function_call", "refusal", "audio",
                                       "reasoning_content", "reasoning", "thinking"}) {
        const Json *const found = given(message, key);
        if (found != nullptr && !(found->is_array() && found->empty())) {
            return true;
        }
    }
    return false;
}

void check_messages(const Json &messages) {
    if (messages.empty()) {
        reject(
            "\"messages\" of the request is empty; it needs at least one like "
            "{\"role\": \"user\", \"content\": \"...\"}");
    }
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const Json &message = messages[i];
        const std::string subject = "\"messages[" + std::to_string(i) + "]\" of the request ";
        if (!message.is_object()) {
            reject(subject + "must be an object, not " + json::type_name(message));
        }
        const Json *const role = given(message, "role");
        if (role == nullptr || !role->is_string()) {
            reject(subject + "needs a string \"role\", such as \"user\"");
        }
        const Json *const content = given(message, "content");
        const bool has_content =
            content != nullptr && (content->is_string() || content->is_array());
        if (!has_content && !may_lack_content(message)) {
            reject(subject + "needs a \"content\" that is a string or an array of parts");
        }
    }
}

// Estimates the tokens of a prompt; exact for token ids.
std::uint64_t estimate_tokens(const Json &prompt) {
    if (prompt.is_string()) {
        return prompt.get_ref<const std::string &>().size() / 4 + 1;
    }
    if (prompt.is_number()) {
        return 1;
    }
    std::uint64_t sum = 0;
    if (prompt.is_array()) {
        for (const Json &item : prompt) {
            sum += estimate_tokens(item);
        }
    } else if (prompt.is_object()) {  // a message, or a part of its content
        for (const char *key : {"content", "text"}) {
            if (const auto found = prompt.find(key); found != prompt.end()) {
                sum += estimate_tokens(*found);
            }
        }
    }
    return sum;
}

// Returns the size without white space at the ends, which templates remove.
std::uint64_t trimmed_size(std::string_view text) {
    constexpr const char *blanks = " \t\r\n\v\f";
    const std::size_t first = text.find_first_not_of(blanks);
    return first == text.npos ? 0 : text.find_last_not_of(blanks) - first + 1;
}

// Returns the size of the users' texts. A template may omit parts of other messages.
std::uint64_t user_text_bytes(const Json &messages) {
    std::uint64_t sum = 0;
    for (const Json &message : messages) {
        if (string_at(message, "role") != "user") {
            continue;
        }
        sum += trimmed_size(string_at(message, "content"));
        if (const Json *const content = given(message, "content");
            content != nullptr && content->is_array()) {
            for (const Json &part : *content) {
                sum += trimmed_size(string_at(part, "text"));
            }
        }
    }
    return sum;
}

// Measures a prompt or input: a text, token ids, or an array of these.
void measure_prompt(const Json &prompt, Body &body) {
    if (const auto *const text = prompt.get_ptr<const std::string *>()) {
        body.longest_text = std::max<std::uint64_t>(body.longest_text, text->size());
    } else if (prompt.is_array() && !prompt.empty()) {
        if (prompt[0].is_number()) {
            body.longest_ids = std::max<std::uint64_t>(body.longest_ids, prompt.size());
            return;
        }
        for (const Json &one : prompt) {
            measure_prompt(one, body);
        }
    }
}

// Returns the number of prompts of a completion. A body is too short for as many as would overflow with "n".
std::uint32_t count_prompts(const Json &prompt) {
    const bool is_list = prompt.is_array() && !prompt.empty() && !prompt[0].is_number();
    return is_list ? static_cast<std::uint32_t>(prompt.size()) : 1;
}

// Returns the unknown keys that an engine has declared, and rejects the others. A null for a key of another kind of
// body is ignored, because some clients write all keys that they know.
std::vector<std::string> keys_for_engine(const std::vector<std::string> &unknown,
                                         const Json &object, BodyKind kind) {
    std::vector<std::string> result;
    for (const std::string &name : unknown) {
        if (request_keys::is_declared(name)) {
            result.push_back(name);
        } else if (!(object[name].is_null() && is_key_of_any_kind(name))) {
            std::vector<std::string> names;
            add_names(names, keys_of(kind));
            request_keys::add_declared(names);
            reject_unknown(name, names, DYNAMO_ERROR_INVALID_REQUEST, "request");
        }
    }
    return result;
}

// Begins a message about an item of an array.
std::string subject(const std::string &key, std::size_t number) {
    return "\"" + key + "[" + std::to_string(number) + "]\" of the request must be ";
}

// Engines would refuse invalid items with different statuses, or not at all.
void check_texts(const char *key, const Json &texts) {
    for (std::size_t i = 0; texts.is_array() && i < texts.size(); ++i) {
        if (!texts[i].is_string() || json::is_text(texts[i], "")) {
            reject(subject(key, i) + "a string that is not empty, not " +
                   (texts[i].is_string() ? "\"\"" : json::type_name(texts[i])));
        }
    }
    if (json::is_text(texts, "")) {
        reject(subject(key, 0) + "a string that is not empty, not \"\"");
    }
}

void check_ids(const std::string &key, const Json &ids) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (!ids[i].is_number_integer()) {
            reject(subject(key, i) + "an integer, not " + json::type_name(ids[i]));
        }
        if (!ids[i].is_number_unsigned() || ids[i].get<std::uint64_t>() > 4294967295) {
            reject(subject(key, i) + "from 0 to 4294967295, not " + ids[i].dump());
        }
    }
}

// Checks a prompt or an input: texts, token ids, or arrays of token ids.
void check_prompts(const char *key, const Json &prompts) {
    if (!prompts.is_array() || prompts.empty()) {
        return;
    }
    if (prompts.front().is_number()) {
        check_ids(key, prompts);
        return;
    }
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        if (prompts[i].is_array()) {
            check_ids(std::string(key) + "[" + std::to_string(i) + "]", prompts[i]);
        } else if (!prompts[i].is_string()) {
            reject(subject(key, i) +
                   "a string, a token id or an array of token ids like the others, not " +
                   json::type_name(prompts[i]));
        }
    }
}

void check_bias(const Json &bias) {
    for (const auto &[key, value] : bias.items()) {
        std::uint32_t id = 0;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
        if (error != std::errc() || end != key.data() + key.size()) {
            reject("\"logit_bias\" of the request has token ids as keys, not \"" +
                   as_utf8(std::string_view(key).substr(0, 100)) + "\"");
        }
        const bool is_valid =
            value.is_number() && value.get<double>() >= -100 && value.get<double>() <= 100;
        if (!is_valid) {
            reject("\"logit_bias." + key +
                   "\" of the request must be a number from -100 to 100, not " +
                   (value.is_number() ? value.dump() : json::type_name(value)));
        }
    }
}

// Reads a value if it is given.
template <class Value>
void read(const Json &object, std::string_view key, Value &value) {
    if (const Json *const found = given(object, key)) {
        found->get_to(value);
    }
}

void read_stream_options(const Json &options, Body &body) {
    constexpr std::array keys = {
        boolean("include_usage"),
        boolean(
            "include_obfuscation"),  // OpenAI's padding against eavesdropping on a network: ignored
        boolean("continuous_usage_stats"),  // vLLM's
    };
    check(options, keys, DYNAMO_ERROR_INVALID_REQUEST, "request", "stream_options.");
    if (const Json *const include = given(options, "include_usage")) {
        body.include_usage = include->get<bool>();
    }
    if (const Json *const continuous = given(options, "continuous_usage_stats");
        continuous != nullptr && continuous->get<bool>()) {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                      "\"stream_options.continuous_usage_stats\" of the request is not supported: "
                      "token counts come at the end of the stream; use \"include_usage\"");
    }
}

void read_nvext(const Json &nvext, Body &body) {
    constexpr std::array keys = {object("agent_hints"), array("extra_fields"), array("annotations"),
                                 text("cache_salt")};
    constexpr std::array hint_keys = {priority_key};
    std::vector<std::string> unknown;  // left to the engine
    check(nvext, keys, DYNAMO_ERROR_INVALID_REQUEST, "request", "nvext.", &unknown);
    if (const Json *const hints = given(nvext, "agent_hints")) {
        check(*hints, hint_keys, DYNAMO_ERROR_INVALID_REQUEST, "request", "nvext.agent_hints.",
              &unknown);
        read(*hints, "priority", body.priority);
    }
    if (const Json *const fields = given(nvext, "extra_fields")) {
        for (const Json &field : *fields) {
            body.wants_timing = body.wants_timing || json::is_text(field, "timing");
        }
    }
}

// Whether bodies of a kind are answered with text, which may be streamed.
bool has_choices(BodyKind kind) {
    return is_chat(kind) || kind == BodyKind::completion;
}

// Finds the kind of a body by the key that it has; for an "input" also by its "task".
BodyKind kind_of(const Json &object) {
    if (object.contains("input") && given(object, "task") != nullptr) {
        check(Json{{"task", object["task"]}}, {&task_key, 1}, DYNAMO_ERROR_INVALID_REQUEST,
              "request");
        if (json::is_text(object["task"], "respond")) {
            return BodyKind::responses;
        }
        if (json::is_text(object["task"], "classify")) {
            return BodyKind::classification;
        }
    }
    const bool has_messages = object.contains("messages");
    const bool has_prompt = object.contains("prompt");
    const bool has_input = object.contains("input");
    const int kinds =
        static_cast<int>(has_messages) + static_cast<int>(has_prompt) + static_cast<int>(has_input);
    if (kinds == 0) {
        if (object.contains("query")) {
            return BodyKind::rerank;
        }
        for (const char *key : {"text_1", "queries", "data_1"}) {
            if (object.contains(key)) {
                return BodyKind::score;
            }
        }
    }
    if (kinds != 1) {
        std::vector<std::string> names = {"messages", "prompt", "input"};
        std::string hint;
        for (const auto &[name, value] : object.items()) {
            const std::string suggestion = kinds == 0 ? nearest(name, names) : "";
            if (!suggestion.empty()) {
                hint = "; did you mean \"" + suggestion + "\" instead of \"" + name + "\"?";
            }
        }
        reject(std::string("the request needs ") + (kinds == 0 ? "one of " : "only one of ") +
               "\"messages\" (chat), \"prompt\" (completion) and \"input\" (embedding)" + hint);
    }
    return has_messages ? BodyKind::chat : has_prompt ? BodyKind::completion : BodyKind::embedding;
}

}  // namespace

Body Body::parse(std::string_view text) {
    text = json::without_bom(text);
    const Json object = json::parse_object(text, "request", DYNAMO_ERROR_INVALID_REQUEST);
    const BodyKind kind = kind_of(object);
    if (kind != BodyKind::responses) {
        return parse_as(kind, object, text);
    }
    std::vector<std::string> unknown;
    check(object, responses_keys(), DYNAMO_ERROR_INVALID_REQUEST, "request", "", &unknown);
    keys_for_engine(unknown, object, kind);
    const OrderedJson ordered = json::parse_ordered(text, "request");
    const std::string chat = json::dump(responses_body::to_chat(ordered));
    Body body =
        parse_as(kind, json::parse_object(chat, "request", DYNAMO_ERROR_INVALID_REQUEST), chat);
    body.cost.add_original(object, text.size());
    body.include_usage.reset();  // the last event has it
    body.settings = std::make_shared<const OrderedJson>(responses_body::settings_of(ordered));
    return body;
}

// The object may be a chat that stands for a body of the kind `responses`.
Body Body::parse_as(BodyKind kind, const Json &object, std::string_view text) {
    Body body;
    body.text = text;
    body.kind = kind;
    const BodyKind form = kind == BodyKind::responses ? BodyKind::chat : kind;
    std::vector<std::string> unknown;
    check(object, keys_of(form), DYNAMO_ERROR_INVALID_REQUEST, "request", "", &unknown);
    body.engine_keys = keys_for_engine(unknown, object, form);
    if (form == BodyKind::chat) {
        check_messages(object["messages"]);
    }
    const auto check_each = [&](std::initializer_list<const char *> keys, auto check) {
        for (const char *key : keys) {
            if (const Json *const value = given(object, key)) {
                check(key, *value);
            }
        }
    };
    check_each({"stop", "bad_words", "guided_choice"}, check_texts);
    check_each({"prompt", "input"}, check_prompts);
    check_each({"stop_token_ids", "allowed_token_ids"}, check_ids);
    if (const Json *const bias = given(object, "logit_bias")) {
        check_bias(*bias);
    }
    read(object, "model", body.model);
    read(object, "request_id", body.id);
    read(object, "stream", body.stream);
    read(object, "n", body.n);
    if (const Json *const options = given(object, "stream_options")) {
        read_stream_options(*options, body);
    }
    if (const Json *const nvext = given(object, "nvext")) {
        read_nvext(*nvext, body);
    }
    read(object, "priority", body.priority);
    if (form == BodyKind::chat) {
        body.prompt_tokens = estimate_tokens(object["messages"]);
        body.longest_text = user_text_bytes(object["messages"]);
    } else {
        for (const auto &[key, value] : object.get_ref<const Json::object_t &>()) {
            if (!value.is_null() && is_key_of_texts(key)) {
                body.prompt_tokens += estimate_tokens(value);
                measure_prompt(value, body);
            }
        }
    }
    body.may_truncate = given(object, "truncate_prompt_tokens") != nullptr;
    for (const std::string_view key : {"max_completion_tokens", "max_tokens"}) {
        if (const Json *const most = given(object, key); most != nullptr && !body.max_tokens) {
            body.max_tokens = most->get<std::uint64_t>();
        }
    }
    if (body.kind == BodyKind::completion) {
        body.prompts = count_prompts(object["prompt"]);
    }
    if (!has_choices(kind)) {
        body.stream = false;
        body.max_tokens = 0;
    }
    body.cost = Cost::of_body(object, text.size(), body.choices());
    return body;
}

Body Body::parse_whole(std::string_view text) {
    text = json::without_bom(text);
    if (!has_choices(kind_of(json::parse_object(text, "request", DYNAMO_ERROR_INVALID_REQUEST)))) {
        return parse(text);  // it has no such key
    }
    // Engines read schemas and tools in the order of their keys.
    OrderedJson object = json::parse_ordered(text, "request");
    object["stream"] = false;
    return parse(json::dump(object));
}

void Body::check_engine_keys(const std::vector<std::string> &declared,
                             const std::string &engine) const {
    for (const std::string &name : engine_keys) {
        if (std::find(declared.begin(), declared.end(), name) == declared.end()) {
            std::vector<std::string> names;
            add_names(names, keys_of(kind));
            names.insert(names.end(), declared.begin(), declared.end());
            reject_unknown(name, names, DYNAMO_ERROR_INVALID_REQUEST,
                           "request for the engine \"" + engine + "\"");
        }
    }
}

Body Body::raw(std::int32_t kind, std::string_view bytes) {
    if (kind != DYNAMO_DATA_JSON && kind != DYNAMO_DATA_BYTES) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      "kind is " + std::to_string(kind) +
                          "; it must be DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES");
    }
    if (kind == DYNAMO_DATA_JSON) {
        bytes = json::without_bom(bytes);
        json::parse(bytes, "data");
    }
    Body body;
    body.text = bytes;
    body.kind = BodyKind::raw;
    body.payload_kind = kind;
    body.max_tokens = 0;
    return body;
}

Body Body::control(const char *name, std::string_view arguments) {
    const auto reject = [](const std::string &problem) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, problem);
    };
    const std::string_view given = name == nullptr ? "" : name;
    if (given.empty()) {
        reject("name is empty; give the name of a call, such as \"list_adapters\"");
    }
    if (invalid_utf8_at(given) != given.npos) {
        reject("name is not UTF-8");
    }
    Json object = json::parse_object(json::without_bom(arguments), "arguments",
                                     DYNAMO_ERROR_INVALID_ARGUMENT);
    std::string model;
    if (const auto found = object.find("model"); found != object.end()) {
        if (!found->is_string()) {
            reject(std::string("\"model\" of the arguments must be a string, not ") +
                   json::type_name(*found));
        }
        model = found->get<std::string>();
        object.erase(found);
    }
    Body body = raw(DYNAMO_DATA_JSON, json::dump(object));
    body.call = given;
    body.model = std::move(model);
    body.stream = false;  // one whole answer, so the stream's capacity does not limit it
    return body;
}

}  // namespace dynamo
