// SPDX-License-Identifier: Apache-2.0
#include "core/json.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/utf8.hpp"

namespace dynamo::json {
namespace {

std::string position(std::string_view text, std::size_t byte) {
    const std::size_t end = std::min(byte == 0 ? 0 : byte - 1, text.size());
    const std::string_view before = text.substr(0, end);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t newline = before.rfind('\n');
    const std::size_t column = end - (newline == before.npos ? 0 : newline + 1) + 1;
    return "line " + std::to_string(line) + ", column " + std::to_string(column) + " (byte " +
           std::to_string(end) + ")";
}

// nlohmann's text is "[json.exception.parse_error.101] parse error at line 1, column 2: reason; last read: 'text';
// expected ...". What was read may be a secret, and the position says where it is.
std::string reason(const std::string &what) {
    const std::size_t colon = what.find(": ");
    std::string text = colon == what.npos ? what : what.substr(colon + 2);
    if (const std::size_t read = text.find("; last read: "); read != text.npos) {
        const std::size_t expected = text.rfind("; expected ");
        text.erase(read, expected != text.npos && expected > read ? expected - read : text.npos);
    }
    return as_utf8(text);
}

}  // namespace

std::string_view without_bom(std::string_view text) {
    constexpr std::string_view mark = "\xEF\xBB\xBF";
    return text.substr(0, mark.size()) == mark ? text.substr(mark.size()) : text;
}

Json parse(std::string_view text, const char *what) {
    if (text.size() > max_size) {
        throw Failure(DYNAMO_ERROR_INVALID_JSON,
                      std::string("the ") + what + " has " + std::to_string(text.size()) +
                          " bytes; at most " + std::to_string(max_size) + " (64 MiB) are read");
    }
    const auto check_depth = [&](int depth, Json::parse_event_t, Json &) {
        if (depth > max_depth) {
            throw Failure(DYNAMO_ERROR_INVALID_JSON, std::string("the ") + what +
                                                         " is nested deeper than " +
                                                         std::to_string(max_depth) + " levels");
        }
        return true;
    };
    Json value;
    try {
        value = Json::parse(text, check_depth);
    } catch (const Json::parse_error &error) {
        throw Failure(DYNAMO_ERROR_INVALID_JSON, std::string("the ") + what +
                                                     " is no JSON: " + position(text, error.byte) +
                                                     ": " + reason(error.what()));
    } catch (const Json::out_of_range &error) {
        throw Failure(DYNAMO_ERROR_INVALID_JSON,
                      std::string("the ") + what + " has a number out of range: " + error.what());
    }
    return value;
}

Json parse_object(std::string_view text, const char *what, std::int32_t wrong_type) {
    Json value = parse(text, what);
    if (!value.is_object()) {
        throw Failure(wrong_type, std::string("the ") + what +
                                      " must be a JSON object like {\"key\": value}, not " +
                                      type_name(value));
    }
    return value;
}

bool is_text(const Json &value, std::string_view text) noexcept {
    const auto *const string = value.get_ptr<const std::string *>();
    return string != nullptr && *string == text;
}

const char *type_name(const Json &value) {
    switch (value.type()) {
        case Json::value_t::null:
            return "null";
        case Json::value_t::boolean:
            return "a boolean";
        case Json::value_t::string:
            return "a string";
        case Json::value_t::array:
            return "an array";
        case Json::value_t::object:
            return "an object";
        case Json::value_t::number_float:
            return "a number with a fraction";
        default:
            return "an integer";
    }
}

std::string dump(const Json &value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dump(const OrderedJson &value) {
    return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace dynamo::json
