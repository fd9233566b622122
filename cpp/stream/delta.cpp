// SPDX-License-Identifier: Apache-2.0
#include "stream/delta.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace dynamo::delta {
namespace {

using json::Json;
using json::string_at;

constexpr std::size_t most_calls = 1024;
constexpr std::size_t most_read = std::size_t{64} << 20;

std::int64_t index_of(const Json &piece) {
    const auto found = piece.find("index");
    if (found == piece.end() || !found->is_number()) {
        return -1;
    }
    const auto index = found->get<double>();
    return index >= 0 && index < 1e9 ? static_cast<std::int64_t>(index) : -1;
}

bool looks_whole(const std::string &arguments) {
    constexpr const char *blank = " \t\r\n";
    const std::size_t first = arguments.find_first_not_of(blank);
    return first != std::string::npos && arguments[first] == '{' &&
           arguments[arguments.find_last_not_of(blank)] == '}';
}

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_ENGINE_FAILED, message, "engine");
}

// Removes a key of a later piece that repeats what an earlier piece of the call had.
void drop_repeated(Json &object, const char *key, const std::string &known) {
    const auto found = object.find(key);
    if (found != object.end() &&
        (found->is_null() || json::is_text(*found, "") || json::is_text(*found, known))) {
        object.erase(found);
    }
}

void drop_nulls(Json &object) {
    for (auto item = object.begin(); item != object.end();) {
        item = item->is_null() ? object.erase(item) : std::next(item);
    }
}

}  // namespace

bool ToolCalls::has_whole_arguments(const Call &call) {
    if (!looks_whole(call.arguments)) {
        return false;
    }
    read_ += call.arguments.size();
    if (read_ > most_read) {
        reject("the engine repeats the names of tool calls too often in one choice");
    }
    return Json::accept(call.arguments);
}

// Returns the call that a piece continues; nullptr if the piece begins one.
ToolCalls::Call *ToolCalls::find(const std::string &id, std::int64_t index,
                                 const std::string &name) {
    const auto newest = [&](const auto &fits) {
        const auto found = std::find_if(calls_.rbegin(), calls_.rend(), fits);
        return found == calls_.rend() ? nullptr : &*found;
    };
    const auto fits_index = [&](const Call &call) { return index < 0 || call.index == index; };
    Call *call = nullptr;
    if (!id.empty()) {
        call = newest(
            [&](const Call &one) { return one.id == id && (fits_index(one) || one.index < 0); });
        if (call == nullptr && name.empty()) {  // the id may come after the call's first piece
            call = newest(fits_index);
            call = call != nullptr && call->id.empty() ? call : nullptr;
        }
    } else {
        call = newest(fits_index);
    }
    if (call == nullptr || name.empty()) {
        return call;
    }
    // Two pieces with a name in one delta are two calls.
    if (call->is_in_delta) {
        return nullptr;
    }
    if (!id.empty() || call->name.empty()) {
        return call;
    }
    // Without an id, a name begins a new call if it is a different one after arguments, or the same one after
    // complete arguments.
    const bool is_same = call->name == name;
    const bool continues =
        is_same ? !has_whole_arguments(*call) : index >= 0 && call->arguments.empty();
    return continues ? call : nullptr;
}

void ToolCalls::number(Json &pieces) {
    for (Call &call : calls_) {
        call.is_in_delta = false;
    }
    for (Json &piece : pieces) {
        if (!piece.is_object()) {
            continue;
        }
        drop_nulls(piece);
        const auto found = piece.find("function");
        Json *const function =
            found != piece.end() && found->is_object() ? &found.value() : nullptr;
        const auto custom = piece.find("custom");  // a tool whose input is any text
        if (function != nullptr) {
            drop_nulls(*function);
            const auto arguments = function->find("arguments");
            if (arguments != function->end() && !arguments->is_string()) {
                *arguments = json::dump(*arguments);  // OpenAI's arguments are JSON in a string
            }
        }
        const std::string id(string_at(piece, "id"));
        const std::int64_t index = index_of(piece);
        const std::string name(function == nullptr ? "" : string_at(*function, "name"));
        Call *call = find(id, index, name);
        if (call == nullptr) {
            if (calls_.size() == most_calls) {
                reject("the engine makes more than " + std::to_string(most_calls) +
                       " tool calls in one choice");
            }
            call = &calls_.emplace_back();
            call->id = id;
            call->index = index;
            if (function != nullptr && string_at(piece, "type").empty()) {
                piece["type"] = "function";
            }
        } else {
            drop_repeated(piece, "id", call->id);
            piece.erase("type");
            if (function != nullptr) {
                drop_repeated(*function, "name", call->name);
            }
            if (call->id.empty()) {
                call->id = id;
            }
        }
        if (function != nullptr) {
            call->name += string_at(*function, "name");
            call->arguments += string_at(*function, "arguments");
        } else if (custom != piece.end() && custom->is_object()) {
            call->name = call->name.empty() ? string_at(*custom, "name") : call->name;
            call->arguments += string_at(*custom, "input");
        }
        call->is_in_delta = true;
        piece["index"] = call - calls_.data();
    }
}

std::vector<ToolCall> ToolCalls::take() {
    std::vector<ToolCall> taken(std::make_move_iterator(calls_.begin()),
                                std::make_move_iterator(calls_.end()));
    calls_.clear();
    return taken;
}

void normalize(Json &delta, ToolCalls &calls) {
    drop_nulls(delta);
    // Used by vLLM since 0.19, and by OpenRouter.
    if (const auto reasoning = delta.find("reasoning");
        reasoning != delta.end() && reasoning->is_string()) {
        Json text = std::move(reasoning.value());
        delta.erase(reasoning);
        if (string_at(delta, "reasoning_content").empty()) {
            delta["reasoning_content"] = std::move(text);
        }
    }
    if (const auto pieces = delta.find("tool_calls"); pieces != delta.end() && pieces->is_array()) {
        calls.number(*pieces);
    }
}

void merge(Json &into, const Json &more) {
    for (const auto &[key, value] : more.items()) {
        Json &target = into[key];
        const bool identifies = key == "id" || key == "type" || key == "role";
        if (value.is_null() && !target.is_null()) {
            continue;
        }
        if (target.is_string() && value.is_string() && !identifies) {
            target.get_ref<std::string &>() += value.get_ref<const std::string &>();
        } else if (target.is_object() && value.is_object()) {
            merge(target, value);
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
                    merge(*same, item);
                }
            }
        } else {
            target = value;
        }
    }
}

void complete_calls(Json &message) {
    const auto calls = message.find("tool_calls");
    if (calls == message.end() || !calls->is_array()) {
        return;
    }
    for (Json &call : *calls) {
        if (!call.is_object()) {
            continue;
        }
        call.erase("index");
        call.emplace("id", "");
        if (!call.contains("custom")) {
            call.emplace("type", "function");
            Json &function = call["function"];
            if (function.is_null() || function.is_object()) {
                function.emplace("name", "");
                function.emplace("arguments", "");
            }
        }
    }
}

}  // namespace dynamo::delta
