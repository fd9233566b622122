// SPDX-License-Identifier: Apache-2.0
#include "core/body.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.hpp"
#include "core/schema.hpp"

namespace dynamo {
namespace {

using json::Json;

// Keys of OpenAI's API reference, and below them the extensions that vLLM, SGLang and Dynamo share.
// Ranges are OpenAI's.
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
constexpr Key integer(const char *name) {
    return or_null({name, Type::integer, ""});
}
constexpr Key number(const char *name, double least, double most) {
    return or_null({name, Type::number, "", least, most});
}

#define DYNAMO_SAMPLING_KEYS                                                                       \
    text("model"), number("frequency_penalty", -2, 2), number("presence_penalty", -2, 2),          \
        object("logit_bias"), count("max_tokens", 0), count("n", 1, 128), integer("seed"),         \
        or_null({"stop", Type::string_or_array, ""}), boolean("stream"), object("stream_options"), \
        number("temperature", 0, 2), number("top_p", 0, 1), text("user"), count("top_k", -1),      \
        number("min_p", 0, 1), number("repetition_penalty", 0, 100), count("min_tokens", 0),       \
        boolean("ignore_eos"), array("stop_token_ids"), boolean("skip_special_tokens"),            \
        boolean("include_stop_str_in_output"),                                                     \
        or_null({"priority", Type::integer, "", -2147483648.0, 2147483647.0}), object("nvext"),    \
        text("adapter"), text("traceparent"), text("tracestate"), any("guided_json"),              \
        text("guided_regex"), text("guided_grammar"), array("guided_choice")

constexpr std::array chat_keys = {
    DYNAMO_SAMPLING_KEYS,
    Key{"messages", Type::array, ""},
    boolean("logprobs"),
    count("top_logprobs", 0, 20),
    count("max_completion_tokens", 0),
    object("response_format"),
    array("tools"),
    array("documents"),
    or_null({"tool_choice", Type::string_or_object, ""}),
    boolean("parallel_tool_calls"),
    text("reasoning_effort"),
    any("metadata"),
    boolean("store"),
    text("service_tier"),
    array("modalities"),
    any("prediction"),
    text("prompt_cache_key"),
    text("safety_identifier"),
    text("verbosity"),
    object("chat_template_kwargs"),
    text("chat_template"),
    boolean("add_generation_prompt"),
    boolean("continue_final_message"),
};

constexpr std::array completion_keys = {
    DYNAMO_SAMPLING_KEYS,      Key{"prompt", Type::string_or_array, ""},
    count("logprobs", 0, 20),  count("best_of", 1, 128),
    boolean("echo"),           text("suffix"),
    object("response_format"), any("guided_json"),
    text("guided_regex"),      text("guided_grammar"),
    array("guided_choice"),
};

constexpr std::array embedding_keys = {
    Key{"input", Type::string_or_array, ""},
    text("model"),
    or_null(one_of("float|base64", {"encoding_format", Type::string, ""})),
    count("dimensions", 1),
    text("user"),
    object("nvext"),
    text("traceparent"),
    text("tracestate"),
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_REQUEST, message);
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
        const auto role = message.find("role");
        if (role == message.end() || !role->is_string()) {
            reject(subject + "needs a string \"role\", such as \"user\"");
        }
        const auto content = message.find("content");
        const bool has_content =
            content != message.end() && (content->is_string() || content->is_array());
        const bool may_lack = message.contains("tool_calls") || message.contains("refusal");
        if (!has_content && !may_lack) {
            reject(subject + "needs a \"content\" that is a string or an array of parts");
        }
    }
}

// About as many tokens as a prompt has; exact where it comes as token ids.
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

void read_nvext(const Json &nvext, Body &body) {
    if (const auto hints = nvext.find("agent_hints"); hints != nvext.end() && hints->is_object()) {
        if (const auto priority = hints->find("priority");
            priority != hints->end() && priority->is_number_integer()) {
            body.priority = priority->get<std::int64_t>();
        }
    }
    if (const auto fields = nvext.find("extra_fields");
        fields != nvext.end() && fields->is_array()) {
        for (const Json &field : *fields) {
            body.wants_timing = body.wants_timing || json::is_text(field, "timing");
        }
    }
}

}  // namespace

Body Body::parse(std::string_view text) {
    text = json::without_bom(text);
    const Json object = json::parse_object(text, "request", DYNAMO_ERROR_INVALID_REQUEST);
    const int kinds = static_cast<int>(object.contains("messages")) +
                      static_cast<int>(object.contains("prompt")) +
                      static_cast<int>(object.contains("input"));
    if (kinds != 1) {
        std::vector<std::string> names = {"messages", "prompt", "input"};
        std::string hint;
        for (const auto &[name, value] : object.items()) {
            const std::string near = kinds == 0 ? nearest(name, names) : "";
            if (!near.empty()) {
                hint = "; did you mean \"" + near + "\" by \"" + name + "\"?";
            }
        }
        reject(std::string("the request needs ") + (kinds == 0 ? "one of " : "only one of ") +
               "\"messages\" (chat), \"prompt\" (completion) and \"input\" (embedding)" + hint);
    }
    Body body;
    body.text = text;
    if (object.contains("messages")) {
        body.kind = BodyKind::chat;
        check(object, chat_keys, DYNAMO_ERROR_INVALID_REQUEST, "request");
        check_messages(object["messages"]);
    } else if (object.contains("prompt")) {
        body.kind = BodyKind::completion;
        check(object, completion_keys, DYNAMO_ERROR_INVALID_REQUEST, "request");
    } else {
        body.kind = BodyKind::embedding;
        check(object, embedding_keys, DYNAMO_ERROR_INVALID_REQUEST, "request");
    }
    const auto given = [&](const char *key) {
        const auto found = object.find(key);
        return found == object.end() || found->is_null() ? nullptr : &*found;
    };
    if (const Json *model = given("model")) {
        body.model = model->get<std::string>();
    }
    if (const Json *stream = given("stream")) {
        body.stream = stream->get<bool>();
    }
    if (const Json *n = given("n")) {
        body.n = n->get<std::uint32_t>();
    }
    if (const Json *nvext = given("nvext")) {
        read_nvext(*nvext, body);
    }
    if (const Json *priority = given("priority")) {
        body.priority = priority->get<std::int64_t>();
    }
    for (const char *key : {"messages", "prompt", "input"}) {
        if (const Json *prompt = given(key)) {
            body.prompt_tokens = estimate_tokens(*prompt);
        }
    }
    for (const char *key : {"max_completion_tokens", "max_tokens"}) {
        if (const Json *most = given(key); most != nullptr && !body.max_tokens) {
            body.max_tokens = most->get<std::uint64_t>();
        }
    }
    if (body.kind == BodyKind::embedding) {
        body.stream = false;
        body.max_tokens = 0;
    }
    return body;
}

Body Body::of_data(std::int32_t kind, std::string_view bytes) {
    if (kind != DYNAMO_DATA_JSON && kind != DYNAMO_DATA_BYTES) {
        throw Failure(
            DYNAMO_ERROR_INVALID_ARGUMENT,
            "kind is " + std::to_string(kind) + "; it is DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES");
    }
    if (kind == DYNAMO_DATA_JSON) {
        json::parse(bytes, "data");
    }
    Body body;
    body.text = bytes;
    body.kind = BodyKind::data;
    body.data_kind = kind;
    body.max_tokens = 0;
    return body;
}

}  // namespace dynamo
