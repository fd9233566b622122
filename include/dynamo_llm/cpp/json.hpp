// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.hpp"

DYNAMO_LLM_BEGIN

/**
 * Builds JSON text. Converts implicitly from bool, numbers, and texts (UTF-8); array() and object() combine other
 * values; raw() takes JSON text unchanged.
 */
class Json {
  public:
    /** null */
    Json(std::nullptr_t) : text_("null") {}
    /** A string; NULL becomes "". */
    Json(const char *text) { append_string(detail::view(text)); }
    /** A string. */
    Json(std::string_view text) { append_string(text); }
    /** A string. */
    Json(const std::string &text) { append_string(text); }
    /** true, false, or a number. */
    template <class Number, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
    Json(Number value) {
        if constexpr (std::is_same_v<Number, bool>) {
            text_ = value ? "true" : "false";
        } else if constexpr (std::is_integral_v<Number>) {
            text_ = std::to_string(value);
        } else {
            append_float(static_cast<double>(value));
        }
    }
    /** An array. */
    template <class Element>
    Json(const std::vector<Element> &values) : text_("[") {
        for (const auto &value : values) {
            text_ += (text_.size() > 1 ? ", " : "") + Json(value).text_;
        }
        text_ += ']';
    }

    /** An array of values of different types. */
    static Json array(std::initializer_list<Json> values) { return {std::vector<Json>(values)}; }
    /** An object. */
    static Json object(std::initializer_list<std::pair<std::string_view, Json>> members) {
        Json object = raw("{}");
        for (const auto &[key, value] : members) {
            object.add(key, value);
        }
        return object;
    }
    /** JSON text, unchanged. It is not validated here: if it is not valid JSON (also NaN and infinity) or not UTF-8,
     * the library reports DYNAMO_ERROR_INVALID_JSON when it receives it. */
    static Json raw(std::string text) {
        Json json(nullptr);
        json.text_ = std::move(text);
        return json;
    }

    /** Appends a member to an object. If a key is added twice, the last value counts. */
    Json &add(std::string_view key, const Json &value) {
        reopen('{', '}');
        append_string(key);
        text_ += ": " + value.text_ + '}';
        return *this;
    }
    /** Appends an element to an array. */
    Json &push(const Json &value) {
        reopen('[', ']');
        text_ += value.text_ + ']';
        return *this;
    }

    /** Returns the JSON text. */
    const std::string &text() const noexcept { return text_; }

  private:
    // Removes the last bracket, to append an element. A text without one becomes invalid JSON, which the library
    // reports.
    void reopen(char first, char last) {
        const auto trim = [this] { text_.erase(text_.find_last_not_of(" \t\r\n") + 1); };
        trim();
        if (!text_.empty() && text_.back() == last) {
            text_.pop_back();
            trim();
        }
        if (text_.empty() || text_.back() != first) {
            text_ += ", ";
        }
    }
    void append_string(std::string_view text) {
        text_ += '"';
        for (const char c : text) {
            if (c == '"' || c == '\\') {
                text_ += '\\';
                text_ += c;
            } else if (static_cast<unsigned char>(c) < 0x20) {
                const char *const digits = "0123456789abcdef";
                text_ += "\\u00";
                text_ += digits[(c >> 4) & 15];
                text_ += digits[c & 15];
            } else {
                text_ += c;
            }
        }
        text_ += '"';
    }
    void append_float(double value) {  // to the last bit, whatever the locale
#if defined(__cpp_lib_to_chars)
        char digits[32];
        text_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
#else
        std::ostringstream out;
        out.imbue(std::locale::classic());
        out.precision(17);
        out << value;
        text_ += out.str();
#endif
    }

    std::string text_;
};

DYNAMO_LLM_END
