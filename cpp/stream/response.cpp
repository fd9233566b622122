// SPDX-License-Identifier: Apache-2.0
#include "stream/response.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "stream/response_events.hpp"

namespace dynamo {
namespace {

using json::Json;
using json::OrderedJson;

// Log-probs of tokens are parallel lists, which are concatenated.
void append_lists(Json &into, const Json &more) {
    for (const auto &[key, value] : more.items()) {
        Json &target = into[key];
        if (target.is_array() && value.is_array()) {
            target.insert(target.end(), value.begin(), value.end());
        } else {
            target = value;
        }
    }
}

// RFC 4648.
std::string base64(std::string_view bytes) {
    constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        const std::size_t count = std::min<std::size_t>(bytes.size() - i, 3);
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            text += k <= count ? digits[group >> (18 - 6 * k) & 63] : '=';
        }
    }
    return text;
}

}  // namespace

std::shared_ptr<Response> Response::create(const ResponseHead *head) {
    return std::allocate_shared<Response>(SpareAllocator<Response, ResponseHead>(head), Key(),
                                          head);
}

Response::Response(Key, const ResponseHead *its_head) : head(its_head) {}

Response::~Response() = default;

void Response::add_delta(Json more) {
    if (delta == nullptr) {
        delta = std::make_unique<Json>(std::move(more));
    } else {
        delta::merge(*delta, more);
    }
}

void Response::add_logprobs(Json more) {
    if (logprobs == nullptr) {
        logprobs = std::make_unique<Json>(std::move(more));
    } else {
        append_lists(*logprobs, more);
    }
}

void Response::add_payload(const dynamo_data_t &data) {
    if (payloads == nullptr) {
        payloads = std::make_unique<std::vector<Payload>>();
    }
    payloads->push_back({data.kind, {static_cast<const char *>(data.bytes), data.length}});
}

const std::string &Response::json() {
    std::call_once(json_built_,
                   [this] { json_ = std::make_unique<const std::string>(json::dump(build())); });
    return *json_;
}

const ResponseValues &Response::values() const {
    static const auto *const none = new ResponseValues;  // leaked: used while the process exits
    if (logprobs == nullptr && head->kind != BodyKind::embedding) {
        return *none;
    }
    std::call_once(values_read_, [this] {
        auto read = std::make_unique<ResponseValues>();
        if (logprobs != nullptr) {
            read->logprobs = read_logprobs(*logprobs, token_ids.to_vector());
        }
        if (head->kind == BodyKind::embedding && delta != nullptr) {
            read->embeddings = read_embeddings(*delta);
        }
        values_ = std::move(read);
    });
    return *values_;
}

std::string_view Response::reasoning() const {
    const bool has_delta = is_chat(head->kind) && delta != nullptr;
    const std::string_view text =
        has_delta ? json::string_at(*delta, "reasoning_content") : std::string_view();
    return text.empty() ? std::string_view("") : text;
}

OrderedJson Response::build() const {
    OrderedJson object = build_answer();
    if (head->wants_timing && timing) {
        const auto milliseconds = [](std::int64_t microseconds) {
            return microseconds < 0 ? OrderedJson(nullptr)
                                    : OrderedJson(static_cast<double>(microseconds) / 1000);
        };
        object["nvext"] = {{"timing",
                            {{"queue_ms", milliseconds(timing->queue_us)},
                             {"first_token_ms", milliseconds(timing->first_token_us)},
                             {"total_ms", milliseconds(timing->total_us)}}}};
    }
    return object;
}

OrderedJson Response::build_answer() const {
    switch (head->kind) {
        case BodyKind::raw:
            return build_payloads();
        case BodyKind::embedding:
        case BodyKind::rerank:
        case BodyKind::score:
        case BodyKind::classification:
            return build_list();
        case BodyKind::responses:
            return build_responses();
        default:
            return build_choices();
    }
}

// Builds the object of a chat or a completion.
OrderedJson Response::build_choices() const {
    const bool is_chat = head->kind == BodyKind::chat;
    OrderedJson choices = OrderedJson::array();
    if (has_choice) {
        choices.push_back(build_choice());
    }
    if (more_choices != nullptr) {
        for (const std::shared_ptr<Response> &other : *more_choices) {
            choices.push_back(other->build_choice());
        }
    }
    const char *kind =
        !is_chat ? "text_completion" : (head->stream ? "chat.completion.chunk" : "chat.completion");
    OrderedJson object = {
        {"id", (is_chat ? "chatcmpl-" : "cmpl-") + head->id},
        {"object", kind},
        {"created", head->created},
        {"model", head->model},
        {"choices", std::move(choices)},
    };
    const bool is_asked_for = head->stream && head->include_usage.value_or(false);
    if (usage && (!head->stream || head->include_usage.value_or(true))) {
        object["usage"] = build_usage();
    } else if (is_asked_for) {
        object["usage"] = nullptr;
    }
    return object;
}

OrderedJson Response::build_choice() const {
    OrderedJson choice = {{"index", index}};
    OrderedJson its_logprobs = logprobs == nullptr ? OrderedJson(nullptr) : OrderedJson(*logprobs);
    if (head->kind == BodyKind::chat) {
        choice[head->stream ? "delta" : "message"] = build_message();
        if (its_logprobs.contains("content") && !its_logprobs.contains("refusal")) {
            its_logprobs["refusal"] = nullptr;
        }
    } else {
        if (delta != nullptr) {
            choice.update(OrderedJson(*delta));
            choice["index"] = index;
        }
        choice["text"] = text.view();
    }
    choice["logprobs"] = std::move(its_logprobs);
    choice["finish_reason"] =
        finish_reason.empty() ? OrderedJson(nullptr) : OrderedJson(finish_reason);
    if (!head->stream && head->choices > 1 && !token_ids.empty()) {
        // dynamo_response_t exposes those of the first choice only. The key is vLLM's.
        choice["token_ids"] = token_ids.to_vector();
    }
    return choice;
}

// Builds the "delta" of a chunk, or the "message" of a whole answer.
OrderedJson Response::build_message() const {
    OrderedJson message = OrderedJson::object();
    if (is_first || !head->stream) {
        message["role"] = "assistant";
    }
    if (!text.empty() || (delta == nullptr && !is_after_delta)) {
        message["content"] = text.view();
    } else if (is_first || !head->stream) {
        // A message without text, such as a tool call, has null instead of an empty text.
        message["content"] = nullptr;
    }
    if (!head->stream) {
        message["refusal"] = nullptr;
    }
    if (delta != nullptr) {
        if (head->stream) {
            message.update(OrderedJson(*delta));
        } else {
            Json whole = *delta;
            delta::complete_calls(whole);
            message.update(OrderedJson(whole));
        }
    }
    return message;
}

// Builds what the engine sent as a whole: embeddings, or the scores of texts in the form of vLLM's server.
OrderedJson Response::build_list() const {
    OrderedJson object = OrderedJson::object();
    if (head->kind == BodyKind::rerank) {
        object = {{"id", "rerank-" + head->id}, {"model", head->model}};
    } else if (head->kind == BodyKind::embedding) {
        object = {{"object", "list"}, {"model", head->model}};
    } else {
        const char *const prefix = head->kind == BodyKind::score ? "score-" : "classify-";
        object = {{"id", prefix + head->id},
                  {"object", "list"},
                  {"created", head->created},
                  {"model", head->model}};
    }
    if (delta != nullptr) {
        object.update(OrderedJson(*delta));
    }
    if (usage) {
        object["usage"] = {{"prompt_tokens", usage->prompt_tokens},
                           {"total_tokens", usage->prompt_tokens}};
    }
    return object;
}

// Builds the events of a part of a stream, or the whole answer, which is in the last event.
OrderedJson Response::build_responses() const {
    if (head->stream) {
        return {{"events", events != nullptr ? *events : OrderedJson::array()}};
    }
    OrderedJson all = ResponseEvents(*head).of(*this);
    return std::move(all.back()["response"]);
}

OrderedJson Response::build_usage() const {
    return {
        {"prompt_tokens", usage->prompt_tokens},
        {"completion_tokens", usage->completion_tokens},
        {"total_tokens", usage->prompt_tokens + usage->completion_tokens},
        {"prompt_tokens_details", {{"cached_tokens", usage->cached_tokens}}},
    };
}

OrderedJson Response::build_payloads() const {
    OrderedJson list = OrderedJson::array();
    if (payloads != nullptr) {
        for (const Payload &payload : *payloads) {
            list.push_back(payload.kind == DYNAMO_DATA_JSON
                               ? json::parse_ordered(payload.bytes, "item")
                               : OrderedJson{{"base64", base64(payload.bytes)}});
        }
    }
    return {{"items", std::move(list)}};
}

}  // namespace dynamo
