// SPDX-License-Identifier: Apache-2.0
#include "runtime/grammar/cost.hpp"

#include <algorithm>

namespace dynamo {

std::uint64_t GrammarCost::clamp(double value) {
    return value < static_cast<double>(max_cost) ? static_cast<std::uint64_t>(std::max(value, 0.0))
                                                 : max_cost;
}

std::uint64_t GrammarCost::sum(std::uint64_t a, std::uint64_t b) {
    return std::min(max_cost, a + b);  // both are at most 2^53
}

GrammarCost GrammarCost::of_too_long(std::size_t bytes) {
    return {std::min<std::uint64_t>(bytes, max_cost), max_cost, max_cost, max_cost, max_cost};
}

void GrammarCost::add(const GrammarCost &other) {
    bytes = sum(bytes, other.bytes);
    repetitions = sum(repetitions, other.repetitions);
    depth = std::max(depth, other.depth);
    rules = sum(rules, other.rules);
    multiples = std::max(multiples, other.multiples);
}

}  // namespace dynamo
