// SPDX-License-Identifier: Apache-2.0
#include "frontend/json_scanner.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace dynamo::frontend {

void JsonScanner::reject() const {
    throw ProtocolError("an event of an answer is not valid JSON at byte " +
                        std::to_string(std::min(at_, text_.size()) + 1));
}

void JsonScanner::skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
        ++at_;
    }
}

bool JsonScanner::take(char wanted) {
    skip_space();
    if (at_ < text_.size() && text_[at_] == wanted) {
        ++at_;
        return true;
    }
    return false;
}

void JsonScanner::expect(char wanted) {
    if (!take(wanted)) {
        reject();
    }
}

char JsonScanner::peek() {
    skip_space();
    if (at_ == text_.size()) {
        reject();
    }
    return text_[at_];
}

std::string_view JsonScanner::raw_string() {
    expect('"');
    has_escapes_ = false;
    const std::size_t begin = at_;
    for (;;) {
        at_ = text_.find_first_of("\"\\", at_);
        if (at_ == std::string_view::npos) {
            reject();
        }
        if (text_[at_] == '"') {
            return text_.substr(begin, at_++ - begin);
        }
        has_escapes_ = true;
        at_ += 2;
    }
}

bool JsonScanner::string(std::string &text) {
    if (peek() == 'n') {
        skip_literal();
        return false;
    }
    const std::size_t begin = at_;
    const std::string_view raw = raw_string();
    if (!has_escapes_) {
        text.assign(raw);
        return true;
    }
    const std::string_view quoted = text_.substr(begin, at_ - begin);
    const nlohmann::json value = nlohmann::json::parse(quoted, nullptr, false);
    if (!value.is_string()) {
        at_ = begin;
        reject();
    }
    text = value.get_ref<const std::string &>();
    return true;
}

std::uint64_t JsonScanner::number(std::uint64_t most, const char *what) {
    if (peek() == 'n') {
        skip_literal();
        return 0;
    }
    const std::size_t begin = at_;
    std::uint64_t value = 0;
    bool is_too_large = false;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
        const auto digit = static_cast<std::uint64_t>(text_[at_++] - '0');
        is_too_large = is_too_large || value > (most - std::min(digit, most)) / 10;
        value = value * 10 + digit;
    }
    const bool ends = at_ == text_.size() ||
                      std::string_view(",]} \n\t\r").find(text_[at_]) != std::string_view::npos;
    if (at_ == begin || !ends || is_too_large) {
        throw ProtocolError(std::string("an event of an answer has no integer from 0 to ") +
                            std::to_string(most) + " as " + what);
    }
    return value;
}

void JsonScanner::skip() {
    std::size_t depth = 0;
    do {
        const char first = peek();
        if (first == '"') {
            raw_string();
        } else if (first == '{' || first == '[') {
            ++depth;
            ++at_;
        } else if (first == '}' || first == ']') {
            if (depth == 0) {
                reject();
            }
            --depth;
            ++at_;
        } else if (depth > 0 && (first == ',' || first == ':')) {
            ++at_;
        } else {
            skip_literal();
        }
    } while (depth > 0);
}

// A number, true, false, or null.
void JsonScanner::skip_literal() {
    const std::size_t begin = at_;
    at_ = std::min(text_.find_first_of(",:]}[{\" \n\t\r", at_), text_.size());
    const std::string_view literal = text_.substr(begin, at_ - begin);
    if (literal.empty()) {
        reject();
    }
    const bool is_number = literal.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
    if (!is_number && literal != "null" && literal != "true" && literal != "false") {
        at_ = begin;
        reject();
    }
}

void JsonScanner::end() {
    skip_space();
    if (at_ != text_.size()) {
        reject();
    }
}

}  // namespace dynamo::frontend
