// SPDX-License-Identifier: Apache-2.0
#include "core/response.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace dynamo {
namespace {

using json::Json;
using json::OrderedJson;

// OpenAI's rule for putting deltas together: texts are appended, lists are merged by "index", and
// what identifies something ("id", "type", "role", "name") is replaced.
void merge_delta(Json &into, const Json &delta) {
    for (const auto &[key, value] : delta.items()) {
        Json &target = into[key];
        const bool identifies = key == "id" || key == "type" || key == "role" || key == "name";
        if (target.is_string() && value.is_string() && !identifies) {
            target.get_ref<std::string &>() += value.get_ref<const std::string &>();
        } else if (target.is_object() && value.is_object()) {
            merge_delta(target, value);
        } else if (target.is_array() && value.is_array()) {
            for (const Json &item : value) {
                const auto same =
                    std::find_if(target.begin(), target.end(), [&](const Json &other) {
                        return item.is_object() && other.is_object() && item.contains("index") &&
                               other.contains("index") && item["index"] == other["index"];
                    });
                if (same == target.end()) {
                    target.push_back(item);
                } else {
                    merge_delta(*same, item);
                }
            }
        } else {
            target = value;
        }
    }
}

// Log-probs of tokens are lists side by side; they are joined.
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
        merge_delta(*delta, more);
    }
}

void Response::add_logprobs(Json more) {
    if (logprobs == nullptr) {
        logprobs = std::make_unique<Json>(std::move(more));
    } else {
        append_lists(*logprobs, more);
    }
}

void Response::add_item(const dynamo_data_t &data) {
    if (items == nullptr) {
        items = std::make_unique<std::vector<Item>>();
    }
    items->push_back({data.kind, {static_cast<const char *>(data.bytes), data.length}});
}

const std::string &Response::json() {
    std::call_once(json_built_,
                   [this] { json_ = std::make_unique<const std::string>(json::dump(build())); });
    return *json_;
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
    if (head->kind == BodyKind::data) {
        return build_items();
    }
    const bool is_chat = head->kind == BodyKind::chat;
    OrderedJson choice = {{"index", index}};
    if (head->kind == BodyKind::embedding) {
        OrderedJson object = {{"object", "list"}, {"model", head->model}};
        if (delta != nullptr) {
            object.update(OrderedJson(*delta));
        }
        if (usage) {
            object["usage"] = {{"prompt_tokens", usage->prompt_tokens},
                               {"total_tokens", usage->prompt_tokens}};
        }
        return object;
    }
    if (is_chat) {
        OrderedJson message = OrderedJson::object();
        if (is_first || !head->stream) {
            message["role"] = "assistant";
        }
        if (!text.empty() || delta == nullptr) {
            message["content"] = text.view();
        } else if (!head->stream) {
            message["content"] = nullptr;
        }
        if (delta != nullptr) {
            message.update(OrderedJson(*delta));
        }
        choice[head->stream ? "delta" : "message"] = std::move(message);
    } else {
        if (delta != nullptr) {
            choice.update(OrderedJson(*delta));
            choice["index"] = index;
        }
        choice["text"] = text.view();
    }
    choice["logprobs"] = logprobs == nullptr ? OrderedJson(nullptr) : OrderedJson(*logprobs);
    choice["finish_reason"] =
        finish_reason.empty() ? OrderedJson(nullptr) : OrderedJson(finish_reason);

    const char *kind =
        !is_chat ? "text_completion" : (head->stream ? "chat.completion.chunk" : "chat.completion");
    OrderedJson object = {
        {"id", (is_chat ? "chatcmpl-" : "cmpl-") + head->id},
        {"object", kind},
        {"created", head->created},
        {"model", head->model},
        {"choices", OrderedJson::array({std::move(choice)})},
    };
    if (usage) {
        object["usage"] = {
            {"prompt_tokens", usage->prompt_tokens},
            {"completion_tokens", usage->completion_tokens},
            {"total_tokens", usage->prompt_tokens + usage->completion_tokens},
            {"prompt_tokens_details", {{"cached_tokens", usage->cached_tokens}}},
        };
    }
    return object;
}

OrderedJson Response::build_items() const {
    OrderedJson list = OrderedJson::array();
    if (items != nullptr) {
        for (const Item &item : *items) {
            list.push_back(item.kind == DYNAMO_DATA_JSON
                               ? OrderedJson::parse(item.bytes)
                               : OrderedJson{{"base64", base64(item.bytes)}});
        }
    }
    return {{"items", std::move(list)}};
}

}  // namespace dynamo
