// SPDX-License-Identifier: Apache-2.0
#include "services/detokenizer.hpp"

#include <nlohmann/json.hpp>

namespace dynamo {

std::string Detokenizer::add(std::span<const std::uint32_t> ids) {
    tokenizer_->require_ids(ids);
    return ids.empty() ? std::string() : advance(ids, false);
}

std::string Detokenizer::finish() {
    return advance({}, true);
}

std::string Detokenizer::advance(std::span<const std::uint32_t> ids, bool is_last) {
    tokenizer_->require_may_wait();
    const std::lock_guard lock(mutex_);
    if (is_last && tail_.empty()) {
        return {};
    }
    const json::Json command = {{"advance", ids},
                                {"tail", tail_},
                                {"is_last", is_last},
                                {"skip_special_tokens", skips_special_tokens_}};
    const std::shared_ptr<Response> step = tokenizer_->ask(json::dump(command));
    tail_ = step->token_ids.to_vector();
    return std::string(step->text.view());
}

}  // namespace dynamo
