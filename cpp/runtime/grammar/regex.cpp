// SPDX-License-Identifier: Apache-2.0
// The cost of a regular expression.
#include <algorithm>
#include <cctype>

#include "runtime/grammar/cost.hpp"
#include "runtime/grammar/repetition.hpp"

namespace dynamo {
namespace {

using grammar::repetition_at;

// Returns the length of an escape with its backslash: \n, \p{Greek}, \x{1F600}.
std::size_t escape_length(std::string_view text) {
    if (text.size() > 2 && text[2] == '{' &&
        std::string_view("pPxuUNokg").find(text[1]) != std::string_view::npos) {
        const std::size_t end = text.find('}', 3);
        if (end != text.npos) {
            return end + 1;
        }
    }
    return std::min<std::size_t>(2, text.size());
}

}  // namespace

GrammarCost GrammarCost::of_regex(std::string_view regex) {
    if (regex.size() > GrammarCost::max_bytes) {
        return of_too_long(regex.size());
    }
    grammar::Groups groups;
    double written = 0;  // parts as written
    for (std::size_t at = 0; at < regex.size();) {
        const std::string_view rest = regex.substr(at);
        if (const auto repetition = repetition_at(rest)) {
            groups.inner().repeat(repetition->times);
            at += repetition->length;
            continue;
        }
        if (rest[0] == '(') {
            groups.open();
        } else if (rest[0] == ')') {
            groups.close();
        } else if (rest[0] == '\\') {
            groups.inner().add(1);
            at += escape_length(rest);
            ++written;
            continue;
        } else if (std::isspace(static_cast<unsigned char>(rest[0]))) {
            // With the flag "x", a repetition after white space applies to the part before it.
            groups.inner().total += 1;
            groups.inner().last = std::max(groups.inner().last, 1.0);
            ++written;
        } else if (std::string_view("|?*+").find(rest[0]) == std::string_view::npos) {
            groups.inner().add(1);
            ++written;
        }
        ++at;
    }
    return {regex.size(), clamp(groups.total() - written), groups.deepest() + 1, 0, 0};
}

}  // namespace dynamo
