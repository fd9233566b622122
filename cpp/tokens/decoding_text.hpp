// SPDX-License-Identifier: Apache-2.0
// Decodes one text from a stream of tokens.
//
// The decoders of the library `tokenizers` need all tokens of a text at once. Here each stage returns text as soon as no
// later token can change it, and keeps only the state it needs to continue. The concatenated text equals the result of
// `tokenizers`, with one exception: each byte of a byte token that is not valid UTF-8 becomes one U+FFFD, as in
// SentencePiece, while `tokenizers` also replaces the characters around it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokens/vocabulary.hpp"

namespace dynamo::tokens {

// Copies are independent. Not thread-safe.
class DecodingText {
  public:
    // The vocabulary must outlive this object.
    explicit DecodingText(const Vocabulary &vocabulary);

    // Decodes one more token, which the vocabulary has, and appends the text that no later token can change.
    void add(std::uint32_t id, std::string &out);
    // Ends the text, and appends the rest of it.
    void finish(std::string &out);
    // Whether later text no longer depends on the first tokens.
    bool is_settled() const noexcept;

  private:
    // What a stage keeps. The members that a kind of stage does not use stay empty.
    struct State {
        std::string begun;  // the beginning of a token, of stages that need whole tokens
        std::string held;   // bytes or text that later tokens complete or change
        std::string
            last;  // of `suffix`: `held` if no token follows; of `distinct`: the token before
        std::size_t left =
            0;  // of `strip_text`: how often the character may still be removed at the beginning
        bool has_begun = false;  // of `each_token`, `byte_fallback` (amid bytes), and `distinct`
    };

    // Passes a part of a token to stage `at` and those behind it. ends: whether the token ends with it.
    void feed(std::size_t at, std::string_view text, bool ends, std::string &out);
    void take(std::size_t at, std::string_view token, std::string &out);  // a whole token
    void finish(std::size_t at, std::string &out);
    void take_byte(std::size_t at, int byte, std::string &out);
    void end_bytes(std::size_t at, std::string &out);
    void take_with_suffix(std::size_t at, std::string_view token, std::string &out);
    void strip(std::size_t at, std::string_view text, std::string &out);
    void replace(std::size_t at, std::string_view text, std::string &out);

    const Vocabulary *vocabulary_;
    std::vector<State> states_;
};

}  // namespace dynamo::tokens
