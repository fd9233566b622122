// SPDX-License-Identifier: Apache-2.0
#include "runtime/grammar/repetition.hpp"

#include "runtime/grammar/cost.hpp"

namespace dynamo::grammar {

std::optional<double> number_at(std::string_view text, std::size_t &at) {
    double value = 0;
    const std::size_t start = at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
        value = std::min(value * 10 + (text[at] - '0'), static_cast<double>(GrammarCost::max_cost));
    }
    return at == start ? std::nullopt : std::optional(value);
}

std::size_t after_blanks(std::string_view text, std::size_t at) {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) {
        ++at;
    }
    return at;
}

std::optional<Repetition> repetition_at(std::string_view text) {
    if (text.empty() || text[0] != '{') {
        return std::nullopt;
    }
    std::size_t at = after_blanks(text, 1);
    const auto low = number_at(text, at);
    auto high = low;
    at = after_blanks(text, at);
    if (at < text.size() && text[at] == ',') {
        at = after_blanks(text, at + 1);
        high = number_at(text, at);
        at = after_blanks(text, at);
    }
    if (at >= text.size() || text[at] != '}' || (!low && !high)) {
        return std::nullopt;
    }
    return Repetition{std::max(low.value_or(0), high.value_or(0)), at + 1};
}

}  // namespace dynamo::grammar
