// SPDX-License-Identifier: Apache-2.0
#include "tokens/logprobs.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "base/utf8.hpp"

namespace dynamo::tokens {
namespace {

using json::Json;

[[noreturn]] void reject_logprob() {
    throw std::invalid_argument(
        "a log-prob of the engine is not {\"logprob\": number, \"top\": [[token id, number]]}");
}

const Json &number_of(const Json &logprob) {
    if (!logprob.is_number()) {
        reject_logprob();
    }
    return logprob;
}

// Calls a function with the token ID and the log-prob of each alternative.
template <class Function>
void for_each_alternative(const Json &logprob, Function function) {
    if (const auto top = logprob.find("top"); top != logprob.end() && !top->is_null()) {
        for (const Json &other : *top) {
            const Json &id = other.at(0);
            if (!id.is_number_unsigned() || id.get<std::uint64_t>() > UINT32_MAX) {
                reject_logprob();
            }
            function(id.get<std::uint32_t>(), number_of(other.at(1)));
        }
    }
}

// Returns the text of some bytes, or the bytes as in `bytes:\xf0` if they are not valid UTF-8 by themselves.
std::string name_of(const std::string &bytes) {
    if (invalid_utf8_at(bytes) == std::string::npos) {
        return bytes;
    }
    constexpr char digits[] = "0123456789abcdef";
    std::string name = "bytes:";
    for (const char byte : bytes) {
        const auto value = static_cast<unsigned char>(byte);
        name.append("\\x").append({digits[value >> 4], digits[value & 15]});
    }
    return name;
}

std::size_t characters_in(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

}  // namespace

Logprobs::Logprobs(LogprobForm form, std::shared_ptr<const Vocabulary> vocabulary,
                   std::span<const std::uint32_t> prompt, bool skips_special_tokens)
    : form_(form), vocabulary_(std::move(vocabulary)) {
    if (form == LogprobForm::completion || form == LogprobForm::completion_top) {
        text_.emplace(vocabulary_, prompt, skips_special_tokens);
    }
}

Json Logprobs::of(std::span<const std::uint32_t> ids, const Json &given) {
    try {
        switch (form_) {
            case LogprobForm::chat:
                return of_chat(ids, given);
            case LogprobForm::completion:
            case LogprobForm::completion_top:
                return of_completion(ids, given);
            default: {
                Json all = Json::array();
                for (std::size_t i = 0; i < ids.size(); ++i) {
                    all.push_back(given.at(i));
                }
                return {{"tokens", std::move(all)}};
            }
        }
    } catch (const Json::exception &) {
        reject_logprob();
    }
}

Json Logprobs::of_chat(std::span<const std::uint32_t> ids, const Json &given) const {
    Json content = Json::array();
    for (std::size_t i = 0; i < ids.size(); ++i) {
        Json token = entry(ids[i], number_of(given.at(i).at("logprob")));
        Json top = Json::array();
        for_each_alternative(given.at(i), [&](std::uint32_t id, const Json &logprob) {
            top.push_back(entry(id, logprob));
        });
        token["top_logprobs"] = std::move(top);
        content.push_back(std::move(token));
    }
    return {{"content", std::move(content)}};
}

Json Logprobs::of_completion(std::span<const std::uint32_t> ids, const Json &given) {
    Json names = Json::array();
    Json values = Json::array();
    Json tops = Json::array();
    Json offsets = Json::array();
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const Json &logprob = number_of(given.at(i).at("logprob"));
        names.push_back(name(ids[i]));
        values.push_back(logprob);
        // A token that completes a code point has the offset of that code point's beginning.
        offsets.push_back(offset_);
        std::string text;
        text_->feed(ids.subspan(i, 1), text);
        offset_ += characters_in(text);
        if (form_ == LogprobForm::completion_top) {
            Json top = {{name(ids[i]), logprob}};
            for_each_alternative(given.at(i), [&](std::uint32_t id, const Json &value) {
                // A token with the text of an earlier one is named by its ID.
                const std::string its_name = name(id);
                top[id != ids[i] && top.contains(its_name) ? "token_id:" + std::to_string(id)
                                                           : its_name] = value;
            });
            tops.push_back(std::move(top));
        }
    }
    return {{"tokens", std::move(names)},
            {"token_logprobs", std::move(values)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
}

std::string Logprobs::name(std::uint32_t id) const {
    return name_of(vocabulary_->bytes_of(id));
}

Json Logprobs::entry(std::uint32_t id, const Json &logprob) const {
    const std::string bytes = vocabulary_->bytes_of(id);
    Json numbers = Json::array();
    for (const char byte : bytes) {
        numbers.push_back(static_cast<unsigned char>(byte));
    }
    return {{"token", name_of(bytes)}, {"logprob", logprob}, {"bytes", std::move(numbers)}};
}

}  // namespace dynamo::tokens
