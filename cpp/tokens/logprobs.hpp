// SPDX-License-Identifier: Apache-2.0
// Converts the log-probs of a token-level engine to OpenAI's forms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/json.hpp"
#include "tokens/detokenizer.hpp"

namespace dynamo::tokens {

enum class LogprobForm : std::uint8_t {
    none,
    chat,        // {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
    completion,  // {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, with "top_logprobs" empty
    completion_top,  // the same with alternatives
    raw,  // {"tokens": [{"logprob": -0.1, "top": [[id, -0.1]]}]}, as the engine gives them
};

// Not thread-safe.
class Logprobs {
  public:
    // vocabulary: nullptr for the form `raw` only.
    // prompt: the token IDs that the answer continues; "text_offset" counts characters from the answer's beginning.
    Logprobs(LogprobForm form, std::shared_ptr<const Vocabulary> vocabulary,
             std::span<const std::uint32_t> prompt, bool skips_special_tokens);

    // Converts the log-probs of some tokens. `given` has an object {"logprob", "top"} for each token, and may have more.
    // Throws std::invalid_argument if they are not such objects.
    json::Json of(std::span<const std::uint32_t> ids, const json::Json &given);

  private:
    json::Json of_chat(std::span<const std::uint32_t> ids, const json::Json &given) const;
    json::Json of_completion(std::span<const std::uint32_t> ids, const json::Json &given);
    std::string name(std::uint32_t id) const;
    json::Json entry(std::uint32_t id, const json::Json &logprob) const;

    LogprobForm form_;
    std::shared_ptr<const Vocabulary> vocabulary_;
    std::optional<Detokenizer> text_;  // of completions
    std::size_t offset_ = 0;
};

}  // namespace dynamo::tokens
