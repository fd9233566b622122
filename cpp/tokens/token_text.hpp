// SPDX-License-Identifier: Apache-2.0
// Functions of one token's text, as the decoders of the library `tokenizers` apply them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "tokens/vocabulary.hpp"

namespace dynamo::tokens {

std::string replace_all(std::string text, std::string_view from, std::string_view to);

// Returns the length of the longest suffix of a text that is a proper prefix of a pattern.
std::size_t partial_match(std::string_view text, std::string_view pattern) noexcept;

// Returns how often a text begins, or ends, with a non-empty string, at most so many times.
std::size_t times_at_begin(std::string_view text, std::string_view part, std::size_t most) noexcept;
std::size_t times_at_end(std::string_view text, std::string_view part, std::size_t most) noexcept;

// Returns the byte of a token such as <0xE2>; -1 for other tokens.
int byte_of_token(std::string_view token) noexcept;

// Returns the bytes of a byte-level token, or the token itself if one of its letters does not represent a byte.
std::string bytes_of_letters(std::string_view token);

// Returns the function of a decoder whose result for a token depends only on the token and on whether it is the
// first; empty for other decoders, and for those that are not known here, such as regular expressions.
Stage::Piece piece_function(const json::Json &decoder);
// Likewise for the decoder CTC, of tokens that were not dropped.
Stage::Piece distinct_function(const json::Json &decoder);

}  // namespace dynamo::tokens
