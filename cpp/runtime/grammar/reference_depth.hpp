// SPDX-License-Identifier: Apache-2.0
// How deeply a schema is nested when its references are followed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dynamo::grammar {

// The root of a schema, or a part that is referred to.
struct Target {
    double parts = 0;         // as written
    double repeated = 0;      // parts added by its own repetitions
    std::uint64_t depth = 0;  // of its own
    struct Reference {
        std::size_t target;
        bool is_copied;  // keys next to the reference make it another schema
    };
    std::vector<Reference> references;
};

// Deeper than any limit, and well within the stack of a thread.
inline constexpr std::uint64_t max_reference_depth = 1000;

// Levels of nesting with references followed. Targets that refer to each other in a circle count with all their levels.
// Returns GrammarCost::max_cost for chains of references longer than max_reference_depth.
std::uint64_t depth_of(const std::vector<Target> &targets);

}  // namespace dynamo::grammar
