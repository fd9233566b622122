// SPDX-License-Identifier: Apache-2.0
#include "stream/response_events.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "stream/response.hpp"

namespace dynamo {

using json::Json;
using json::OrderedJson;
using json::string_at;

class ResponseEvents::State {
  public:
    explicit State(const ResponseHead &head) : head_(head) {}

    OrderedJson of(const Response &response) {
        events_ = OrderedJson::array();
        if (!has_begun_) {
            has_begun_ = true;
            emit("response.created", {{"response", whole("in_progress")}});
            emit("response.in_progress", {{"response", whole("in_progress")}});
        }
        add_text("reasoning", response.reasoning());
        add_text("message", response.text.view());
        if (response.delta != nullptr) {
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
        return std::exchange(events_, OrderedJson::array());
    }

  private:
    void emit(const char *type, OrderedJson values) {
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

    // Adds an item to the output, after the end of the text before it.
    std::size_t add_item(OrderedJson item) {
        if (text_) {
            close(*text_, "completed");
            text_.reset();
        }
        const std::size_t at = output_.size();
        emit("response.output_item.added", {{"output_index", at}, {"item", item}});
        output_.push_back(std::move(item));
        return at;
    }

    // Begins or continues the items with a text: the reasoning, and the message.
    void add_text(const char *type, std::string_view text) {
        if (!text.empty()) {
            open_text(type);
            OrderedJson &item = output_[*text_];
            item["content"][0]["text"].get_ref<std::string &>() += text;
            OrderedJson values = position(item);
            values["delta"] = text;
            if (is_message(item)) {
                values["logprobs"] = OrderedJson::array();
            }
            emit(is_message(item) ? "response.output_text.delta" : "response.reasoning_text.delta",
                 std::move(values));
        }
    }

    void open_text(std::string_view type) {
        if (text_ && output_[*text_]["type"] == type) {
            return;
        }
        const bool is_message = type == "message";
        OrderedJson part = {{"type", is_message ? "output_text" : "reasoning_text"}, {"text", ""}};
        OrderedJson item = {{"id", id_of(is_message ? "msg_" : "rs_")},
                            {"type", type},
                            {"status", "in_progress"},
                            {"content", OrderedJson::array()}};
        if (is_message) {
            item["role"] = "assistant";
            part["annotations"] = part["logprobs"] = OrderedJson::array();
        } else {
            item["summary"] = OrderedJson::array();
        }
        const std::size_t at = add_item(std::move(item));
        text_ = at;
        OrderedJson values = position(output_[at]);
        values["part"] = part;
        emit("response.content_part.added", std::move(values));
        output_[at]["content"].push_back(std::move(part));
    }

    static bool is_message(const OrderedJson &item) { return item["type"] == "message"; }

    // Returns the keys that tell a client which text an event belongs to.
    OrderedJson position(const OrderedJson &item) const {
        return {{"item_id", item["id"]}, {"output_index", *text_}, {"content_index", 0}};
    }

    // Adds a piece of a tool call. Calls stay open to the end, because pieces of several may alternate.
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
            item["name"].get_ref<std::string &>() += string_at(*function, "name");
            if (!id.empty()) {
                item["call_id"] = id;
            }
        }
        if (const std::string_view more = string_at(*function, "arguments"); !more.empty()) {
            item["arguments"].get_ref<std::string &>() += more;
            emit("response.function_call_arguments.delta",
                 {{"item_id", item["id"]}, {"output_index", at}, {"delta", more}});
        }
    }

    void close(std::size_t at, const char *status) {
        OrderedJson &item = output_[at];
        item["status"] = status;
        if (item["type"] == "function_call") {
            emit("response.function_call_arguments.done", {{"item_id", item["id"]},
                                                           {"output_index", at},
                                                           {"name", item["name"]},
                                                           {"arguments", item["arguments"]}});
        } else {
            const OrderedJson &part = item["content"][0];
            OrderedJson values = {
                {"item_id", item["id"]}, {"output_index", at}, {"content_index", 0}};
            OrderedJson text = values;
            text["text"] = part["text"];
            if (is_message(item)) {
                text["logprobs"] = OrderedJson::array();
            }
            emit(is_message(item) ? "response.output_text.done" : "response.reasoning_text.done",
                 std::move(text));
            values["part"] = part;
            emit("response.content_part.done", std::move(values));
        }
        emit("response.output_item.done", {{"output_index", at}, {"item", item}});
    }

    void finish(const Response &response) {
        if (output_.empty()) {
            open_text("message");  // an empty answer is a message, too
        }
        const std::string &reason = response.finish_reason;
        const bool is_cut = reason == "length" || reason == "content_filter";
        const char *const status = is_cut ? "incomplete" : "completed";
        for (std::size_t at = 0; at < output_.size(); ++at) {
            if (output_[at]["status"] == "in_progress") {
                close(at, status);
            }
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
    bool has_begun_ = false;
    std::uint64_t number_ = 0;
    OrderedJson events_ = OrderedJson::array();
    OrderedJson output_ = OrderedJson::array();  // all items so far
    std::optional<std::size_t> text_;            // the item whose text may continue
    std::map<std::int64_t, std::size_t> calls_;  // the item of each tool call
};

ResponseEvents::ResponseEvents(const ResponseHead &head) : state_(std::make_unique<State>(head)) {}

ResponseEvents::~ResponseEvents() = default;

OrderedJson ResponseEvents::of(const Response &response) {
    return state_->of(response);
}

}  // namespace dynamo
