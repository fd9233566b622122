// SPDX-License-Identifier: Apache-2.0
// Decodes the token IDs of an answer to text while they stream.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tokens/decoding_text.hpp"
#include "tokens/vocabulary.hpp"

namespace dynamo::tokens {

// The concatenated texts equal the text of prompt and answer together, without the prompt's text. No text ends within a
// code point; a code point that begins in the prompt and ends in the answer belongs to the answer. The cost per token
// depends neither on the length of the prompt nor on that of the answer.
//
// Copies are independent. Not thread-safe.
class Detokenizer {
  public:
    // prompt: the token IDs that the answer continues.
    Detokenizer(std::shared_ptr<const Vocabulary> vocabulary, std::span<const std::uint32_t> prompt,
                bool skips_special_tokens);

    // Appends the text that the tokens add, without an incomplete code point at its end. IDs that the vocabulary does
    // not have are skipped.
    void feed(std::span<const std::uint32_t> ids, std::string &out);
    // Ends the answer. Appends the rest of its text, with U+FFFD for an incomplete code point.
    void flush(std::string &out);

    const Vocabulary &vocabulary() const noexcept { return *vocabulary_; }

  private:
    void begin(std::span<const std::uint32_t> prompt);
    bool shows(std::uint32_t id) const noexcept {
        return vocabulary_->has(id) && !(skips_special_ && vocabulary_->is_special(id));
    }
    void drop_known(std::string &out, std::size_t from);

    std::shared_ptr<const Vocabulary> vocabulary_;
    DecodingText text_;
    // The end of the prompt's text that later tokens may still change, with U+FFFD for an incomplete code point.
    std::string replaced_;
    bool skips_special_;
};

}  // namespace dynamo::tokens
