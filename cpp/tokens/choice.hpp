// SPDX-License-Identifier: Apache-2.0
// Converts the tokens of one choice of an answer to text, up to its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokens/detokenizer.hpp"
#include "tokens/logprobs.hpp"
#include "tokens/stop_strings.hpp"

namespace dynamo::tokens {

struct ChoiceSettings {
    std::uint64_t max_tokens = 0;
    std::uint64_t min_tokens =
        0;  // before them neither a stop token nor a stop string ends the choice
    std::vector<std::uint32_t> stop_ids;
    std::vector<std::uint32_t> shown_stop_ids;  // those of them that are part of the answer's text
    std::vector<std::string> stop_strings;
    bool includes_stop = false;  // whether the stop string is part of the answer's text
    bool skips_special_tokens = true;
    LogprobForm logprobs = LogprobForm::none;
};

// What some tokens add to an answer.
struct ChoicePart {
    std::string_view text = {};    // valid until the next call
    std::size_t tokens = 0;        // how many of the tokens belong to the answer
    std::string_view reason = {};  // why the choice ended: "stop", "length", ...; "" if it goes on
    std::string logprobs = {};     // a JSON object; "" without log-probs
};

// Not thread-safe.
class Choice {
  public:
    // vocabulary: nullptr for callers that receive only token IDs.
    // prompt: the token IDs that the answer continues.
    // Throws std::invalid_argument if a form of log-probs needs a vocabulary.
    Choice(std::shared_ptr<const Vocabulary> vocabulary, std::span<const std::uint32_t> prompt,
           ChoiceSettings settings);

    // Takes tokens of the engine. The result does not depend on how they are split.
    //   reason    why the engine ended the choice; "" if it goes on
    //   logprobs  of the tokens; nullptr without them
    // After the end it takes nothing. Throws std::invalid_argument for log-probs that are missing or malformed, and from
    // then on for everything: the tokens of the failed call are lost.
    ChoicePart feed(std::span<const std::uint32_t> ids, std::string_view reason,
                    const json::Json *logprobs);

    bool has_ended() const noexcept { return has_ended_; }
    std::uint64_t tokens() const noexcept { return count_; }
    const std::string &reason() const noexcept { return reason_; }

  private:
    // Takes one token. Returns whether it is part of the text. Sets the reason if the choice ends with it.
    bool take(std::uint32_t id);
    ChoicePart convert(std::span<const std::uint32_t> ids, std::string_view reason,
                       const json::Json *logprobs);

    const ChoiceSettings settings_;
    std::optional<Detokenizer> detokenizer_;
    StopStrings stops_;
    std::optional<Logprobs> logprobs_;
    std::uint64_t count_ = 0;
    bool has_ended_ = false;
    std::string problem_;  // "" until a call has failed
    std::string reason_;
    std::string text_;   // of the current call
    std::string piece_;  // of the current token
};

}  // namespace dynamo::tokens
