// SPDX-License-Identifier: Apache-2.0
// The cost of a grammar in Lark or GBNF.
#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/grammar/cost.hpp"
#include "runtime/grammar/repetition.hpp"

namespace dynamo {
namespace {

using grammar::after_blanks;
using grammar::number_at;
using grammar::repetition_at;

// Returns the length of a text in quotation marks, or of a regular expression in slashes; it ends with its line.
std::size_t quoted_length(std::string_view text) {
    for (std::size_t at = 1; at < text.size() && text[at] != '\n'; ++at) {
        if (text[at] == '\\') {
            ++at;
        } else if (text[at] == text[0]) {
            return at + 1;
        }
    }
    return std::min(text.find('\n'), text.size());
}

// Returns the length of a JSON object at the beginning of a text; 0 if it is not closed.
std::size_t object_length(std::string_view text) {
    std::size_t open = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] == '"') {
            at += quoted_length(text.substr(at)) - 1;
        } else if (text[at] == '{') {
            ++open;
        } else if (text[at] == '}' && --open == 0) {
            return at + 1;
        }
    }
    return 0;
}

// has_classes: brackets are a character class, as in GBNF; otherwise an optional group, as in Lark.
GrammarCost of_rules(std::string_view text, bool has_classes) {
    GrammarCost cost{text.size(), 0, 0, 0, 0};
    grammar::Groups groups;
    double written = 0;
    std::size_t level = 0;
    std::size_t deepest = 0;  // of the rule
    const auto end_rule = [&] {
        cost.rules = GrammarCost::sum(cost.rules, 1 + deepest);
        level = deepest = 0;
    };
    for (std::size_t at = 0; at < text.size();) {
        const std::string_view rest = text.substr(at);
        const auto begins = [&](std::string_view word) {
            return rest.substr(0, word.size()) == word;
        };
        std::size_t length = 1;
        if (begins("//") || rest[0] == '#') {
            length = std::min(rest.find('\n'), rest.size());
        } else if (rest[0] == '"') {
            length = quoted_length(rest);
            groups.inner().add(1);
            ++written;
        } else if (rest[0] == '/') {
            length = quoted_length(rest);
            const GrammarCost regex = GrammarCost::of_regex(rest.substr(0, length));
            const double size = 1 + static_cast<double>(regex.repetitions);
            groups.inner().add(size);
            ++written;
            cost.depth = std::max(cost.depth, regex.depth);
        } else if (has_classes && rest[0] == '[') {
            for (; length < rest.size() && rest[length] != ']' && rest[length] != '\n'; ++length) {
                length += rest[length] == '\\' ? 1 : 0;
            }
            groups.inner().add(1);
            ++written;
        } else if (begins("%json")) {
            const std::size_t brace = rest.find('{');
            const std::size_t size = brace == rest.npos ? 0 : object_length(rest.substr(brace));
            if (size > 0) {
                cost.add(GrammarCost::of_schema(json::Json(std::string(rest.substr(brace, size)))));
                length = brace + size;
            }
        } else if (const auto repetition = repetition_at(rest)) {
            groups.inner().repeat(repetition->times);
            length = repetition->length;
        } else if (rest[0] == '~') {  // Lark: "~3", "~3..5"
            std::size_t end = after_blanks(rest, 1);
            const auto low = number_at(rest, end);
            auto high = low;
            if (low && rest.substr(end, 2) == "..") {
                std::size_t more = end + 2;
                high = number_at(rest, more);
                end = high ? more : end;
            }
            if (low) {
                groups.inner().repeat(std::max(*low, high.value_or(0)));
                length = end;
            }
        } else if (rest[0] == '(' || rest[0] == '[') {
            groups.open();
            deepest = std::max(deepest, ++level);
        } else if (rest[0] == ')' || rest[0] == ']') {
            groups.close();
            level -= level > 0 ? 1 : 0;
        } else if (rest[0] == ':') {
            end_rule();
            length = begins("::=") ? 3 : 1;
        } else if (std::isalnum(static_cast<unsigned char>(rest[0])) || rest[0] == '_') {
            while (length < rest.size() &&
                   (std::isalnum(static_cast<unsigned char>(rest[length])) || rest[length] == '_' ||
                    rest[length] == '-')) {
                ++length;
            }
            groups.inner().add(1);
            ++written;
        }
        at += std::max<std::size_t>(length, 1);
    }
    end_rule();
    cost.depth = std::max<std::uint64_t>(cost.depth, groups.deepest());
    cost.repetitions =
        GrammarCost::sum(cost.repetitions, GrammarCost::clamp(groups.total() - written));
    return cost;
}

}  // namespace

GrammarCost GrammarCost::of_grammar(std::string_view grammar) {
    if (grammar.size() > GrammarCost::max_bytes) {
        return of_too_long(grammar.size());
    }
    GrammarCost cost = of_rules(grammar, false);
    if (grammar.find("::=") != grammar.npos) {  // GBNF, or a Lark grammar that looks like it
        const GrammarCost other = of_rules(grammar, true);
        cost.repetitions = std::max(cost.repetitions, other.repetitions);
        cost.depth = std::max(cost.depth, other.depth);
        cost.rules = std::max(cost.rules, other.rules);
        cost.multiples = std::max(cost.multiples, other.multiples);
    }
    return cost;
}

}  // namespace dynamo
