// SPDX-License-Identifier: Apache-2.0
#include "tokens/token_text.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/utf8.hpp"

namespace dynamo::tokens {
namespace {

// The white space that English texts do not have: the function `cleanup` of the library `tokenizers`.
std::string cleaned_up(std::string text) {
    constexpr std::pair<const char *, const char *> changes[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    for (const auto &[from, to] : changes) {
        text = replace_all(std::move(text), from, to);
    }
    return text;
}

// The byte that each of the first code points represents in byte-level tokenizers; -1 for none. Printable characters
// represent themselves, and those from U+0100 on the other bytes, in order.
constexpr std::size_t letter_count = 0x144;
constexpr std::array<std::int16_t, letter_count> letter_bytes = [] {
    std::array<std::int16_t, letter_count> bytes{};
    for (auto &byte : bytes) {
        byte = -1;
    }
    std::size_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
        const bool is_printable = (byte >= 0x21 && byte <= 0x7E) ||
                                  (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
        bytes[is_printable ? static_cast<std::size_t>(byte) : next++] =
            static_cast<std::int16_t>(byte);
    }
    return bytes;
}();

int digit_of(char letter) noexcept {
    if (letter >= '0' && letter <= '9') {
        return letter - '0';
    }
    const char small = static_cast<char>(letter | 0x20);
    return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

Stage::Piece replace_function(const json::Json &decoder) {
    const json::Json &pattern = decoder.at("pattern");
    if (!pattern.contains("String") || pattern["String"] == "") {
        return {};
    }
    return [from = pattern["String"].get<std::string>(),
            to = decoder.at("content").get<std::string>()](std::string_view token, bool) {
        return replace_all(std::string(token), from, to);
    };
}

Stage::Piece strip_function(const json::Json &decoder) {
    return [content = decoder.at("content").get<std::string>(),
            start = decoder.at("start").get<std::size_t>(),
            stop = decoder.at("stop").get<std::size_t>()](std::string_view token, bool) {
        token.remove_prefix(times_at_begin(token, content, start) * content.size());
        token.remove_suffix(times_at_end(token, content, stop) * content.size());
        return std::string(token);
    };
}

Stage::Piece metaspace_function(const json::Json &decoder) {
    return [letter = decoder.at("replacement").get<std::string>(),
            drops = decoder.value("prepend_scheme", "always") != "never"](std::string_view token,
                                                                          bool is_first) {
        return replace_all(std::string(token), letter, is_first && drops ? "" : " ");
    };
}

Stage::Piece word_piece_function(const json::Json &decoder) {
    return [prefix = decoder.at("prefix").get<std::string>(),
            cleans_up = decoder.at("cleanup").get<bool>()](std::string_view token, bool is_first) {
        std::string text(token);
        if (!is_first) {
            text =
                token.substr(0, prefix.size()) == prefix ? text.substr(prefix.size()) : " " + text;
        }
        return cleans_up ? cleaned_up(std::move(text)) : text;
    };
}

}  // namespace

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
    for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
    return text;
}

std::size_t partial_match(std::string_view text, std::string_view pattern) noexcept {
    std::size_t length = std::min(text.size(), pattern.size() - 1);
    while (length > 0 && text.substr(text.size() - length) != pattern.substr(0, length)) {
        --length;
    }
    return length;
}

std::size_t times_at_begin(std::string_view text, std::string_view part,
                           std::size_t most) noexcept {
    std::size_t times = 0;
    while (times < most && text.substr(0, part.size()) == part) {
        text.remove_prefix(part.size());
        ++times;
    }
    return times;
}

std::size_t times_at_end(std::string_view text, std::string_view part, std::size_t most) noexcept {
    std::size_t times = 0;
    while (times < most && text.size() >= part.size() &&
           text.substr(text.size() - part.size()) == part) {
        text.remove_suffix(part.size());
        ++times;
    }
    return times;
}

int byte_of_token(std::string_view token) noexcept {
    if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') {
        return -1;
    }
    const int high = digit_of(token[3]);
    const int low = digit_of(token[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::string bytes_of_letters(std::string_view token) {
    std::string bytes;
    for (std::size_t i = 0; i < token.size();) {
        const auto lead = static_cast<unsigned char>(token[i]);
        std::size_t letter = lead;
        if (lead >= 0x80) {
            if (lead >> 5 != 6 || i + 1 == token.size()) {
                return std::string(token);
            }
            letter = (lead & 0x1FU) << 6 | (static_cast<unsigned char>(token[++i]) & 0x3FU);
        }
        ++i;
        if (letter >= letter_count || letter_bytes[letter] < 0) {
            return std::string(token);
        }
        bytes += static_cast<char>(letter_bytes[letter]);
    }
    return bytes;
}

Stage::Piece piece_function(const json::Json &decoder) {
    const std::string kind = decoder.at("type").get<std::string>();
    return kind == "Replace"     ? replace_function(decoder)
           : kind == "Strip"     ? strip_function(decoder)
           : kind == "Metaspace" ? metaspace_function(decoder)
           : kind == "WordPiece" ? word_piece_function(decoder)
                                 : Stage::Piece();
}

Stage::Piece distinct_function(const json::Json &decoder) {
    if (decoder.at("pad_token") == "" || decoder.at("word_delimiter_token") == "") {
        return {};
    }
    return [padding = decoder.at("pad_token").get<std::string>(),
            delimiter = decoder.at("word_delimiter_token").get<std::string>(),
            cleans_up = decoder.at("cleanup").get<bool>()](std::string_view token, bool) {
        std::string text = replace_all(std::string(token), padding, "");
        return cleans_up ? replace_all(cleaned_up(std::move(text)), delimiter, " ") : text;
    };
}

}  // namespace dynamo::tokens
