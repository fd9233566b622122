// SPDX-License-Identifier: Apache-2.0
#include "stream/response_events.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stream/response.hpp"

namespace dynamo {
namespace {

// A text within an item.
struct TextPart {
    const char *item;
    const char *id_prefix;  // of the item
    const char *type;       // also in the names of its events
    const char *key;        // of its text
};

// (nlohmann's == constructs a value first, which ends the process without memory.)
bool has_type(const json::OrderedJson &object, std::string_view type) {
    return object["type"].get_ref<const std::string &>() == type;
}

constexpr TextPart reasoning_part = {"reasoning", "rs_", "reasoning_text", "text"};
constexpr TextPart text_part = {"message", "msg_", "output_text", "text"};
constexpr TextPart refusal_part = {"message", "msg_", "refusal", "refusal"};

}  // namespace

using json::Json;
using json::OrderedJson;
using json::string_at;

class ResponseEvents::State {
  public:
    explicit State(const ResponseHead &head) : head_(head) {}

    OrderedJson of(const Response &response) {
        const std::uint64_t first_number = number_;
        const std::size_t items = output_.size();
        events_ = OrderedJson::array();
        appended_.clear();
        try {
            add(response);
        } catch (...) {
            number_ = first_number;
            remove_from(items);
            throw;
        }
        return std::exchange(events_, nullptr);
    }

  private:
    void add(const Response &response) {
        if (number_ == 0) {
            emit("response.created", {{"response", whole("in_progress")}});
            emit("response.in_progress", {{"response", whole("in_progress")}});
        }
        add_text(reasoning_part, response.reasoning());
        add_text(text_part, response.text.view());
        if (response.delta != nullptr) {
            add_text(refusal_part, string_at(*response.delta, "refusal"));
            const auto pieces = response.delta->find("tool_calls");
            if (pieces != response.delta->end() && pieces->is_array()) {
                for (const Json &piece : *pieces) {
                    add_piece(piece);
                }
            }
        }
        if (!response.finish_reason.empty()) {
            finish(response);
        }
    }

    // Undoes the additions since there were this many items. Replaced values, such as "status", may stay.
    void remove_from(std::size_t items) noexcept {
        for (auto one = appended_.rbegin(); one != appended_.rend(); ++one) {
            one->first->resize(one->second);
        }
        const auto is_new = [items](const auto &entry) { return entry.second >= items; };
        std::erase_if(texts_, is_new);
        std::erase_if(calls_, is_new);
        auto &list = output_.get_ref<OrderedJson::array_t &>();
        list.erase(list.begin() + static_cast<std::ptrdiff_t>(items), list.end());
        for (OrderedJson &item : list) {
            // A part without text is one that was just added.
            const auto content = item.find("content");
            while (content != item.end() && !content->empty() && has_no_text(content->back())) {
                content->erase(content->size() - 1);
            }
        }
    }

    static bool has_no_text(const OrderedJson &part) {
        const auto found =
            part.find(part.contains(text_part.key) ? text_part.key : refusal_part.key);
        return found->get_ref<const std::string &>().empty();
    }

    void append(OrderedJson &target, std::string_view more) {
        auto &text = target.get_ref<std::string &>();
        appended_.emplace_back(&text, text.size());
        text += more;
    }

    void emit(const std::string &type, OrderedJson values) {
        OrderedJson event = {{"type", type}, {"sequence_number", number_++}};
        event.update(std::move(values));
        events_.push_back(std::move(event));
    }

    // Returns the answer so far.
    OrderedJson whole(const char *status) const {
        OrderedJson object = {{"id", "resp_" + head_.id},
                              {"object", "response"},
                              {"created_at", head_.created},
                              {"status", status},
                              {"background", false},
                              {"error", nullptr},
                              {"incomplete_details", nullptr},
                              {"model", head_.model},
                              {"output", output_}};
        if (head_.settings != nullptr) {
            object.update(*head_.settings);
        }
        object["usage"] = nullptr;
        return object;
    }

    std::string id_of(const char *prefix) const {
        return prefix + head_.id + "_" + std::to_string(output_.size());
    }

    // Adds an item to the output. Items stay open to the end, because pieces of several may alternate, and because the
    // output must not depend on which pieces a response happens to have.
    std::size_t add_item(OrderedJson item) {
        const std::size_t at = output_.size();
        emit("response.output_item.added", {{"output_index", at}, {"item", item}});
        output_.push_back(std::move(item));
        return at;
    }

    // Begins or continues a text: the reasoning, the message, or its refusal.
    void add_text(const TextPart &kind, std::string_view text) {
        if (text.empty()) {
            return;
        }
        const std::size_t item = open_item(kind);
        const std::size_t at = open_part(kind, item);
        append(output_[item]["content"][at][kind.key], text);
        OrderedJson values = position(item, at);
        values["delta"] = text;
        if (kind.type == text_part.type) {
            values["logprobs"] = OrderedJson::array();
        }
        emit("response." + std::string(kind.type) + ".delta", std::move(values));
    }

    // Returns the place of the item of a text.
    std::size_t open_item(const TextPart &kind) {
        const auto known = texts_.find(kind.item);
        if (known != texts_.end()) {
            return known->second;
        }
        OrderedJson item = {{"id", id_of(kind.id_prefix)},
                            {"type", kind.item},
                            {"status", "in_progress"},
                            {"content", OrderedJson::array()}};
        if (kind.item == reasoning_part.item) {
            item["summary"] = OrderedJson::array();
        } else {
            item["role"] = "assistant";
        }
        const std::size_t at = add_item(std::move(item));
        texts_.emplace(kind.item, at);
        return at;
    }

    // Returns the place of a text in the content of its item.
    std::size_t open_part(const TextPart &kind, std::size_t item) {
        OrderedJson &content = output_[item]["content"];
        std::size_t at = 0;
        for (; at < content.size(); ++at) {
            if (has_type(content[at], kind.type)) {
                return at;
            }
        }
        OrderedJson part = {{"type", kind.type}, {kind.key, ""}};
        if (kind.type == text_part.type) {
            part["annotations"] = part["logprobs"] = OrderedJson::array();
        }
        OrderedJson values = position(item, at);
        values["part"] = part;
        emit("response.content_part.added", std::move(values));
        content.push_back(std::move(part));
        return at;
    }

    // Returns the keys that tell a client which text an event belongs to.
    OrderedJson position(std::size_t item, std::size_t part) const {
        return {{"item_id", output_[item]["id"]}, {"output_index", item}, {"content_index", part}};
    }

    // Adds a piece of a tool call.
    void add_piece(const Json &piece) {
        const auto function = piece.find("function");
        const auto index = piece.find("index");
        if (function == piece.end() || index == piece.end()) {
            return;
        }
        const std::string_view id = string_at(piece, "id");
        const auto known = calls_.find(index->get<std::int64_t>());
        const bool is_new = known == calls_.end();
        std::size_t at = 0;
        if (is_new) {
            at = add_item({{"id", id_of("fc_")},
                           {"type", "function_call"},
                           {"status", "in_progress"},
                           {"call_id", id.empty() ? id_of("call_") : std::string(id)},
                           {"name", string_at(*function, "name")},
                           {"arguments", ""}});
            calls_.emplace(index->get<std::int64_t>(), at);
        } else {
            at = known->second;
        }
        OrderedJson &item = output_[at];
        if (!is_new) {
            append(item["name"], string_at(*function, "name"));
            if (!id.empty()) {
                item["call_id"] = id;
            }
        }
        if (const std::string_view more = string_at(*function, "arguments"); !more.empty()) {
            append(item["arguments"], more);
            emit("response.function_call_arguments.delta",
                 {{"item_id", item["id"]}, {"output_index", at}, {"delta", more}});
        }
    }

    void close(std::size_t at, const char *status) {
        OrderedJson &item = output_[at];
        item["status"] = status;
        if (has_type(item, "function_call")) {
            emit("response.function_call_arguments.done", {{"item_id", item["id"]},
                                                           {"output_index", at},
                                                           {"name", item["name"]},
                                                           {"arguments", item["arguments"]}});
        }
        // Of a text; a call has no content.
        const OrderedJson parts = item.value("content", OrderedJson::array());
        for (std::size_t i = 0; i < parts.size(); ++i) {
            close_part(at, i);
        }
        emit("response.output_item.done", {{"output_index", at}, {"item", item}});
    }

    void close_part(std::size_t item, std::size_t at) {
        const OrderedJson &part = output_[item]["content"][at];
        const auto type = part["type"].get<std::string>();
        const char *const key = type == refusal_part.type ? refusal_part.key : text_part.key;
        OrderedJson text = position(item, at);
        text[key] = part[key];
        if (type == text_part.type) {
            text["logprobs"] = OrderedJson::array();
        }
        emit("response." + type + ".done", std::move(text));
        OrderedJson values = position(item, at);
        values["part"] = part;
        emit("response.content_part.done", std::move(values));
    }

    void finish(const Response &response) {
        if (output_.empty()) {
            open_part(text_part, open_item(text_part));  // an empty answer is a message, too
        }
        const std::string &reason = response.finish_reason;
        const bool is_cut = reason == "length" || reason == "content_filter";
        const char *const status = is_cut ? "incomplete" : "completed";
        for (std::size_t at = 0; at < output_.size(); ++at) {
            close(at, status);
        }
        OrderedJson answer = whole(status);
        if (is_cut) {
            answer["incomplete_details"] = {
                {"reason", reason == "length" ? "max_output_tokens" : reason}};
        }
        if (response.usage != nullptr) {
            const Usage &usage = *response.usage;
            // OpenAI's clients need the counts that engines do not report, too.
            answer["usage"] = {
                {"input_tokens", usage.prompt_tokens},
                {"input_tokens_details",
                 {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
                {"output_tokens", usage.completion_tokens},
                {"output_tokens_details", {{"reasoning_tokens", 0}}},
                {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
        }
        emit(is_cut ? "response.incomplete" : "response.completed",
             {{"response", std::move(answer)}});
    }

    const ResponseHead &head_;
    std::uint64_t number_ = 0;
    OrderedJson events_ = OrderedJson::array();
    OrderedJson output_ = OrderedJson::array();      // all items so far
    std::map<std::string_view, std::size_t> texts_;  // the item of each text, by its type
    std::map<std::int64_t, std::size_t> calls_;      // the item of each tool call
    // What the current response has been appended to, with the former sizes.
    std::vector<std::pair<std::string *, std::size_t>> appended_;
};

ResponseEvents::ResponseEvents(const ResponseHead &head) : state_(std::make_unique<State>(head)) {}

ResponseEvents::~ResponseEvents() = default;

OrderedJson ResponseEvents::of(const Response &response) {
    return state_->of(response);
}

}  // namespace dynamo
