// SPDX-License-Identifier: Apache-2.0
// The parser asserts that strtod() has read a whole number, which is false in some locales.
#define JSON_ASSERT(condition) static_cast<void>(0)
#include <nlohmann/json.hpp>

#include "base/json.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/decimal.hpp"
#include "base/error.hpp"
#include "base/utf8.hpp"

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

// Shortens nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 2: reason; last read: 'text';
// expected ...". The text that was read may be a secret, and the position is reported separately.
std::string reason(const std::string &what) {
    const std::size_t colon = what.find(": ");
    std::string text = colon == what.npos ? what : what.substr(colon + 2);
    if (const std::size_t read = text.find("; last read: "); read != text.npos) {
        const std::size_t expected = text.rfind("; expected ");
        text.erase(read, expected != text.npos && expected > read ? expected - read : text.npos);
    }
    return as_utf8(text);
}

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_JSON, message);
}

// Builds a value from the parser's events. nlohmann's own builder uses numbers as strtod() reads them.
template <class Value>
class Builder {
  public:
    Builder(Value &root, std::string_view text, const char *what)
        : root_(root), text_(text), what_(what) {}

    bool null() { return add_scalar(nullptr, 0); }
    bool boolean(bool value) { return add_scalar(value, 0); }
    bool number_integer(std::int64_t value) { return add_scalar(value, 0); }
    bool number_unsigned(std::uint64_t value) { return add_scalar(value, 0); }
    bool number_float(double, const std::string &text) {
        std::string plain = text;
        for (char &c :
             plain) {  // some versions of nlohmann-json put the locale's decimal point there
            const bool is_json =
                (c >= '0' && c <= '9') || c == '-' || c == '+' || c == 'e' || c == 'E';
            c = is_json ? c : '.';
        }
        const std::optional<double> value = decimal::read(plain);
        if (!value) {
            reject_number(plain);
        }
        return add_scalar(*value, 0);
    }
    bool string(std::string &value) {
        const std::size_t bytes = string_bytes + value.capacity();
        return add_scalar(std::move(value), bytes);
    }
    bool binary(typename Value::binary_t &) { return false; }  // not in JSON
    bool start_object(std::size_t) { return open_container(Value::object(), object_bytes); }
    bool key(std::string &name) {
        count(member_bytes + name.capacity());
        member_ = &(*open_.back())[name];
        return true;
    }
    bool end_object() { return close_container(); }
    bool start_array(std::size_t) { return open_container(Value::array(), array_bytes); }
    bool end_array() { return close_container(); }

    bool parse_error(std::size_t byte, const std::string &token,
                     const typename Value::exception &error) {
        if (dynamic_cast<const typename Value::out_of_range *>(&error) != nullptr) {
            reject_number(token);
        }
        reject(std::string("the ") + what_ + " is not valid JSON: " + position(text_, byte) + ": " +
               reason(error.what()));
    }

  private:
    // Estimated overhead of values, in vectors that grow and in nodes of std::map.
    static constexpr std::size_t value_bytes = 32;
    static constexpr std::size_t string_bytes = 48;
    static constexpr std::size_t array_bytes = 48;
    static constexpr std::size_t object_bytes = 64;
    static constexpr std::size_t member_bytes = 80;

    void count(std::size_t bytes) {
        memory_ += bytes;
        if (memory_ > max_memory) {
            reject(std::string("the ") + what_ + " has too many values: they take more than " +
                   std::to_string(max_memory) + " bytes (256 MiB) of memory");
        }
    }

    [[noreturn]] void reject_number(const std::string &text) const {
        // A long number may be a secret in the wrong place.
        reject(std::string("the ") + what_ + " has a number that is out of range: " +
               (text.size() <= 32 ? as_utf8(text)
                                  : "one of " + std::to_string(text.size()) + " characters") +
               "; the largest is 1.7976931348623157e308");
    }

    template <class Given>
    Value *insert(Given &&value) {
        if (open_.empty()) {
            root_ = std::forward<Given>(value);
            return &root_;
        }
        if (open_.back()->is_array()) {
            open_.back()->push_back(std::forward<Given>(value));
            return &open_.back()->back();
        }
        *member_ = std::forward<Given>(value);
        return member_;
    }

    template <class Given>
    bool add_scalar(Given &&value, std::size_t bytes) {
        count(value_bytes + bytes);
        insert(std::forward<Given>(value));
        return true;
    }

    bool open_container(Value value, std::size_t bytes) {
        if (open_.size() == static_cast<std::size_t>(max_depth)) {
            reject(std::string("the ") + what_ + " is nested deeper than " +
                   std::to_string(max_depth) + " levels");
        }
        count(value_bytes + bytes);
        open_.push_back(insert(std::move(value)));
        return true;
    }

    bool close_container() {
        open_.pop_back();
        return true;
    }

    Value &root_;
    const std::string_view text_;
    const char *const what_;
    std::vector<Value *> open_;  // the arrays and objects that are not closed yet
    Value *member_ = nullptr;    // of the innermost, if it is an object
    std::size_t memory_ = 0;
};

template <class Value>
Value parse_as(std::string_view text, const char *what) {
    if (text.size() > max_size) {
        reject(std::string("the ") + what + " has " + std::to_string(text.size()) +
               " bytes; at most " + std::to_string(max_size) + " (64 MiB) are allowed");
    }
    // The parser would skip a byte order mark, and stop at a NUL byte.
    if (without_bom(text).size() < text.size()) {
        reject(std::string("the ") + what +
               " is not valid JSON: line 1, column 1 (byte 0): a byte order mark, which JSON does "
               "not allow");
    }
    if (const std::size_t nul = text.find('\0'); nul != text.npos) {
        reject(std::string("the ") + what + " is not valid JSON: " + position(text, nul + 1) +
               ": a NUL byte; write \\u0000 inside a string");
    }
    Value value;
    Builder<Value> builder(value, text, what);
    Value::sax_parse(text, &builder);
    return value;
}

}  // namespace

std::string_view without_bom(std::string_view text) {
    constexpr std::string_view mark = "\xEF\xBB\xBF";
    return text.substr(0, mark.size()) == mark ? text.substr(mark.size()) : text;
}

Json parse(std::string_view text, const char *what) {
    return parse_as<Json>(text, what);
}

OrderedJson parse_ordered(std::string_view text, const char *what) {
    return parse_as<OrderedJson>(text, what);
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

const Json *given(const Json &object, std::string_view key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string_view string_at(const Json &object, std::string_view key) {
    const Json *const value = given(object, key);
    const auto *const text = value == nullptr ? nullptr : value->get_ptr<const std::string *>();
    return text == nullptr ? std::string_view() : *text;
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
            return std::fabs(value.get<double>()) >= 9223372036854775808.0
                       ? "a number of more than 64 bits"
                       : "a number with a fraction";
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
