// SPDX-License-Identifier: Apache-2.0
#include "tokens/choice.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace dynamo::tokens {
namespace {

bool has(const std::vector<std::uint32_t> &ids, std::uint32_t id) noexcept {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Choice::Choice(std::shared_ptr<const Vocabulary> vocabulary, std::span<const std::uint32_t> prompt,
               ChoiceSettings settings)
    : settings_(std::move(settings)), stops_(settings_.stop_strings, settings_.includes_stop) {
    if (vocabulary == nullptr && settings_.logprobs != LogprobForm::none &&
        settings_.logprobs != LogprobForm::raw) {
        throw std::invalid_argument("log-probs with texts need a vocabulary");
    }
    if (settings_.logprobs != LogprobForm::none) {
        logprobs_.emplace(settings_.logprobs, vocabulary, prompt, settings_.skips_special_tokens);
    }
    if (vocabulary != nullptr) {
        detokenizer_.emplace(std::move(vocabulary), prompt, settings_.skips_special_tokens);
    }
}

bool Choice::take(std::uint32_t id) {
    const bool may_stop = count_ >= settings_.min_tokens;
    ++count_;
    if (may_stop && has(settings_.stop_ids, id)) {
        reason_ = "stop";
        if (!has(settings_.shown_stop_ids, id)) {
            return false;
        }
    }
    if (detokenizer_) {
        piece_.clear();
        detokenizer_->feed({&id, 1}, piece_);
        if (may_stop) {
            stops_.feed(piece_, text_);
        } else {
            text_.append(piece_);
        }
        if (stops_.has_matched()) {
            reason_ = "stop";
        }
    }
    if (reason_.empty() && count_ >= settings_.max_tokens) {
        reason_ = "length";
    }
    return true;
}

ChoicePart Choice::feed(std::span<const std::uint32_t> ids, std::string_view reason,
                        const json::Json *logprobs) {
    if (!problem_.empty()) {
        throw std::invalid_argument(problem_);
    }
    try {
        return convert(ids, reason, logprobs);
    } catch (const std::exception &failure) {
        problem_ = failure.what();
        has_ended_ = false;
        throw;
    }
}

ChoicePart Choice::convert(std::span<const std::uint32_t> ids, std::string_view reason,
                           const json::Json *logprobs) {
    text_.clear();
    ChoicePart part;
    if (has_ended_) {
        return part;
    }
    std::size_t shown = 0;
    while (part.tokens < ids.size() && reason_.empty()) {
        shown += take(ids[part.tokens]) ? 1 : 0;
        ++part.tokens;
    }
    if (reason_.empty()) {
        reason_ = reason == "eos" || reason == "stop_token" ? "stop" : reason;
    }
    if (!reason_.empty()) {
        has_ended_ = true;
        if (detokenizer_ && !stops_.has_matched()) {
            piece_.clear();
            detokenizer_->flush(piece_);
            stops_.feed(piece_, text_);
            if (stops_.has_matched()) {  // the stop string was in the text held back until the end
                reason_ = "stop";
            } else {
                stops_.flush(text_);
            }
        }
        part.reason = reason_;
    }
    if (logprobs_ && part.tokens > 0) {
        const std::size_t given = logprobs == nullptr ? 0 : logprobs->size();
        if (given < part.tokens) {
            throw std::invalid_argument("the engine yielded " + std::to_string(given) +
                                        " log-probs for " + std::to_string(part.tokens) +
                                        " tokens");
        }
        part.logprobs = json::dump(logprobs_->of(ids.first(shown), *logprobs));
    }
    part.text = text_;
    return part;
}

}  // namespace dynamo::tokens
