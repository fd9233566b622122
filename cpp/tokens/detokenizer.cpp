// SPDX-License-Identifier: Apache-2.0
#include "tokens/detokenizer.hpp"

#include <utility>

#include "base/utf8.hpp"

namespace dynamo::tokens {

Detokenizer::Detokenizer(std::shared_ptr<const Vocabulary> vocabulary,
                         std::span<const std::uint32_t> prompt, bool skips_special_tokens)
    : vocabulary_(std::move(vocabulary)),
      text_(*vocabulary_),
      skips_special_(skips_special_tokens) {
    if (!prompt.empty()) {
        begin(prompt);
    }
}

void Detokenizer::begin(std::span<const std::uint32_t> prompt) {
    // The last tokens of the prompt to decode, to see whether it ends within a code point.
    constexpr int end = 16;
    std::string text;  // the caller has it
    if (vocabulary_->forgets()) {
        // It is enough to decode the beginning, up to the first text, and the end.
        std::size_t at = 0;
        for (; at < prompt.size() && !text_.is_settled(); ++at) {
            if (shows(prompt[at])) {
                text_.add(prompt[at], text);
            }
        }
        std::size_t start = prompt.size();
        for (int wanted = end; start > at && wanted > 0;) {
            --start;
            wanted -= shows(prompt[start]) && !vocabulary_->token(prompt[start]).empty() ? 1 : 0;
        }
        prompt = prompt.subspan(start);
    }
    for (const std::uint32_t id : prompt) {
        if (shows(id)) {
            text_.add(id, text);
        }
    }
    DecodingText ended = text_;
    ended.finish(replaced_);
}

void Detokenizer::feed(std::span<const std::uint32_t> ids, std::string &out) {
    const std::size_t from = out.size();
    for (const std::uint32_t id : ids) {
        if (shows(id)) {
            text_.add(id, out);
        }
    }
    if (!replaced_.empty()) {
        drop_known(out, from);
    }
}

void Detokenizer::flush(std::string &out) {
    const std::size_t from = out.size();
    text_.finish(out);
    if (!replaced_.empty()) {
        drop_known(out, from);
    }
}

// Removes what the prompt's text had at its end, from a position on.
void Detokenizer::drop_known(std::string &out, std::size_t from) {
    std::size_t same = 0;
    while (from + same < out.size() && same < replaced_.size()) {
        const std::size_t length = utf8_length(std::string_view(out).substr(from + same));
        if (out.compare(from + same, length, replaced_, same, length) != 0) {
            replaced_.clear();
            break;
        }
        same += length;
    }
    out.erase(from, same);
    replaced_.erase(0, same);
}

}  // namespace dynamo::tokens
