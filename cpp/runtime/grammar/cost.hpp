// SPDX-License-Identifier: Apache-2.0
// What a grammar in a request (JSON Schema, regular expression, Lark or GBNF) costs the engine that compiles it.
// The cost is measured without compiling: the text is walked once, so that a few bytes that ask for a billion
// repetitions are refused before an engine unrolls them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/json.hpp"

namespace dynamo {

// All counts saturate at max_cost.
struct GrammarCost {
    static constexpr std::uint64_t max_cost = std::uint64_t{1} << 53;
    // A longer text is not walked: it costs max_cost of everything but bytes.
    static constexpr std::size_t max_bytes = std::size_t{1} << 20;

    std::uint64_t bytes = 0;
    std::uint64_t repetitions = 0;  // parts added by writing out repetitions and references
    std::uint64_t depth = 0;        // levels of nesting, with references followed
    std::uint64_t rules = 0;        // Lark and GBNF: rules, and levels of parentheses in them
    std::uint64_t multiples = 0;    // least common multiple of the digits of all "multipleOf"

    // `schema` may also be a string that holds the schema as JSON. Throws Failure with INVALID_REQUEST if that
    // JSON is nested too deeply; a string that is not JSON costs its bytes.
    static GrammarCost of_schema(const json::Json &schema);
    static GrammarCost of_regex(std::string_view regex);
    static GrammarCost of_grammar(std::string_view grammar);

    static GrammarCost of_too_long(std::size_t bytes) {
        return {std::min<std::uint64_t>(bytes, max_cost), max_cost, max_cost, max_cost, max_cost};
    }

    void add(const GrammarCost &other) {
        bytes = sum(bytes, other.bytes);
        repetitions = sum(repetitions, other.repetitions);
        depth = std::max(depth, other.depth);
        rules = sum(rules, other.rules);
        multiples = std::max(multiples, other.multiples);
    }

    // Saturating arithmetic.
    static std::uint64_t clamp(double value) {
        return value < static_cast<double>(max_cost)
                   ? static_cast<std::uint64_t>(std::max(value, 0.0))
                   : max_cost;
    }
    static std::uint64_t sum(std::uint64_t a, std::uint64_t b) {
        return std::min(max_cost, a + b);  // both are at most 2^53
    }
};

}  // namespace dynamo
