// SPDX-License-Identifier: Apache-2.0
#include "base/json_document.hpp"

#include <charconv>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/utf8.hpp"

namespace dynamo {
namespace {

using json::Json;

[[noreturn]] void reject(std::string_view pointer, const char *problem) {
    throw Failure(
        DYNAMO_ERROR_INVALID_ARGUMENT,
        "\"" + as_utf8(pointer.substr(0, 200)) + "\" is not a JSON pointer: " + problem +
            "; \"\" is the whole text, \"/key\" a member, \"/key/0\" the first element of "
            "its array");
}

// Replaces the escapes of one token of a pointer.
std::string unescape(std::string_view token, std::string_view pointer) {
    std::string name;
    for (std::size_t i = 0; i < token.size(); ++i) {
        if (token[i] != '~') {
            name += token[i];
        } else if (++i < token.size() && (token[i] == '0' || token[i] == '1')) {
            name += token[i] == '0' ? '~' : '/';
        } else {
            reject(pointer, "\"~\" must be followed by 0 or 1");
        }
    }
    return name;
}

const Json *element(const Json &array, std::string_view token) {
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), index);
    const bool is_index = error == std::errc() && end == token.data() + token.size() &&
                          (token.size() == 1 || token.front() != '0');
    return is_index && index < array.size() ? &array[index] : nullptr;
}

}  // namespace

JsonDocument::JsonDocument(std::string_view text)
    : root_(std::make_unique<const Json>(json::parse(text, "text"))) {}

JsonDocument::~JsonDocument() = default;

const Json *JsonDocument::find(std::string_view pointer) const {
    if (!pointer.empty() && pointer.front() != '/') {
        reject(pointer, "it must be empty or begin with \"/\"");
    }
    const Json *value = root_.get();
    for (std::string_view rest = pointer; !rest.empty();) {
        rest.remove_prefix(1);
        const std::string_view token = rest.substr(0, rest.find('/'));
        rest.remove_prefix(token.size());
        const std::string name =
            unescape(token, pointer);  // also checks what follows a missing one
        if (value == nullptr) {
            continue;
        }
        if (value->is_array()) {
            value = element(*value, name);
        } else {
            const auto found = value->find(name);  // end() if it is not an object
            value = found == value->end() ? nullptr : &*found;
        }
    }
    return value;
}

std::int32_t JsonDocument::type(std::string_view pointer) const {
    const Json *const value = find(pointer);
    if (value == nullptr) {
        return DYNAMO_JSON_ABSENT;
    }
    switch (value->type()) {
        case Json::value_t::null:
            return DYNAMO_JSON_NULL;
        case Json::value_t::boolean:
            return DYNAMO_JSON_BOOLEAN;
        case Json::value_t::string:
            return DYNAMO_JSON_STRING;
        case Json::value_t::array:
            return DYNAMO_JSON_ARRAY;
        case Json::value_t::object:
            return DYNAMO_JSON_OBJECT;
        default:
            return DYNAMO_JSON_NUMBER;
    }
}

const std::string *JsonDocument::string(std::string_view pointer) const {
    const Json *const value = find(pointer);
    return value == nullptr ? nullptr : value->get_ptr<const std::string *>();
}

std::optional<bool> JsonDocument::boolean(std::string_view pointer) const {
    const Json *const value = find(pointer);
    return value != nullptr && value->is_boolean() ? std::optional(value->get<bool>())
                                                   : std::nullopt;
}

std::optional<double> JsonDocument::number(std::string_view pointer) const {
    const Json *const value = find(pointer);
    return value != nullptr && value->is_number() ? std::optional(value->get<double>())
                                                  : std::nullopt;
}

std::optional<std::int64_t> JsonDocument::integer(std::string_view pointer) const {
    const Json *const value = find(pointer);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (value->is_number_unsigned()) {
        const auto number = value->get<std::uint64_t>();
        return number <= INT64_MAX ? std::optional(static_cast<std::int64_t>(number))
                                   : std::nullopt;
    }
    if (value->is_number_integer()) {
        return value->get<std::int64_t>();
    }
    if (value->is_number_float()) {  // such as 1e3 or 2.0
        const auto number = value->get<double>();
        const bool fits = std::trunc(number) == number && number >= -9223372036854775808.0 &&
                          number < 9223372036854775808.0;
        return fits ? std::optional(static_cast<std::int64_t>(number)) : std::nullopt;
    }
    return std::nullopt;
}

std::size_t JsonDocument::count(std::string_view pointer) const {
    const Json *const value = find(pointer);
    return value != nullptr && value->is_structured() ? value->size() : 0;
}

const std::string &JsonDocument::name(std::string_view pointer, std::size_t index) const {
    const Json *const value = find(pointer);
    const auto *const members =
        value == nullptr ? nullptr : value->get_ptr<const Json::object_t *>();
    if (members == nullptr || index >= members->size()) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      members == nullptr
                          ? "the value at \"" + as_utf8(pointer.substr(0, 200)) +
                                "\" is not an object; dynamo_json_type() tells what it is"
                          : "index is " + std::to_string(index) + ", but the object has " +
                                std::to_string(members->size()) + " member(s)");
    }
    return std::next(members->begin(), static_cast<std::ptrdiff_t>(index))->first;
}

}  // namespace dynamo
