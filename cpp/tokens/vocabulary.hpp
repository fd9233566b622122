// SPDX-License-Identifier: Apache-2.0
// The tokens of a tokenizer, and its decoder, in tables that are compiled once. Immutable, so any thread may use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"

namespace dynamo::tokens {

// A step of a decoder, which converts a stream of tokens to text.
struct Stage {
    enum class Kind : std::uint8_t {
        each_token,     // decodes each token from only its own text and whether it is the first
        byte_fallback,  // tokens such as <0xE2> are bytes of UTF-8
        byte_level,     // the letters of tokens are bytes of UTF-8
        suffix,  // replaces the suffix that ends a word by a space, or by nothing in the last token
        distinct,  // collapses runs of equal tokens into one, and drops padding (CTC)
        // Behind Fuse or ByteLevel, where the whole text is one token:
        strip_text,    // removes a character at the beginning and at the end
        replace_text,  // replaces a string
        whole_text,    // anything else, applied to the whole text at its end
    };
    using Piece = std::function<std::string(std::string_view token, bool is_first)>;

    Kind kind;
    bool forgets = true;    // the last few tokens determine the state, once the text is settled
    Piece piece = {};       // of each_token, distinct, and whole_text
    std::string from = {};  // of suffix, strip_text, and replace_text
    std::string to = {};
    std::size_t start = 0;  // of strip_text: how often at most
    std::size_t stop = 0;
};

class Vocabulary {
  public:
    // Decodes tokens with a decoder that is not known here: a JSON array of decoders as in tokenizer.json.
    using Decode = std::function<std::string(const json::Json &decoders,
                                             const std::vector<std::string> &tokens)>;

    // tokens: the text of each token by its ID; empty where there is no token.
    // decoder: the key "decoder" of tokenizer.json; null: tokens are words, joined by spaces.
    // decode: must stay callable as long as this object lives.
    // Throws std::invalid_argument for a decoder that cannot work on a stream, std::bad_alloc, and what `decode` throws.
    Vocabulary(const std::vector<std::optional<std::string>> &tokens,
               const std::vector<std::uint32_t> &special_ids, const json::Json &decoder,
               Decode decode);
    Vocabulary(const Vocabulary &) = delete;
    Vocabulary &operator=(const Vocabulary &) = delete;

    bool has(std::uint32_t id) const noexcept { return id < exists_.size() && exists_[id]; }
    bool is_special(std::uint32_t id) const noexcept {
        return id < is_special_.size() && is_special_[id];
    }
    // Require has(id).
    std::string_view token(std::uint32_t id) const noexcept { return tokens_.at(id); }
    // The token after the first stage, if that is each_token or byte_level, and the token is not the first.
    std::string_view piece(std::uint32_t id) const noexcept {
        return pieces_.is_empty() ? tokens_.at(id) : pieces_.at(id);
    }

    const std::vector<Stage> &stages() const noexcept { return stages_; }
    // Whether the last few tokens determine the state, once the text is settled.
    bool forgets() const noexcept { return forgets_; }
    // Whether there are byte tokens for characters that the vocabulary lacks.
    bool has_byte_tokens() const noexcept { return has_byte_tokens_; }
    // Whether decoding never calls `decode`.
    bool is_native() const noexcept { return is_native_; }

    // Returns the bytes that a token adds in the middle of a text; "" if there is no such token.
    std::string bytes_of(std::uint32_t id) const;

  private:
    // Strings by number, in one allocation.
    class Strings {
      public:
        bool is_empty() const noexcept { return ends_.empty(); }
        void add(std::string_view text) {
            bytes_.append(text);
            ends_.push_back(bytes_.size());
        }
        std::string_view at(std::size_t number) const noexcept {
            const std::size_t begin = number == 0 ? 0 : ends_[number - 1];
            return {bytes_.data() + begin, ends_[number] - begin};
        }
        void shrink() {
            bytes_.shrink_to_fit();
            ends_.shrink_to_fit();
        }

      private:
        std::string bytes_;
        std::vector<std::size_t> ends_;
    };

    Strings tokens_;
    Strings pieces_;
    std::vector<bool> exists_;
    std::vector<bool> is_special_;
    std::vector<Stage> stages_;
    Decode decode_;
    bool forgets_ = true;
    bool has_byte_tokens_ = false;
    bool is_native_ = true;
};

}  // namespace dynamo::tokens
