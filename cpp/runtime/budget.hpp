// SPDX-License-Identifier: Apache-2.0
// What one request may cost before an engine computes anything for it: sizes and counts of its body. The table in
// budget.cpp defines the keys of the configuration, their defaults, and the texts of errors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/schema.hpp"

namespace dynamo {

struct GrammarCost;

// A quantity of a request that is limited.
enum class Expense : std::uint8_t {
    body_bytes,
    values,
    messages,
    parts,
    string_bytes,
    stop_strings,
    stop_bytes,
    logit_bias,
    tools,
    tool_bytes,
    inputs,
    choices,
    grammar_bytes,
    grammar_repetitions,
    grammar_depth,
    grammar_rules,
    grammar_multiples,
};
inline constexpr std::size_t expense_count =
    static_cast<std::size_t>(Expense::grammar_multiples) + 1;

// The keys of "limits.request" in a configuration.
extern const std::array<Key, expense_count> budget_keys;

// Whether a key of a body that is not a chat has its texts, or one of them.
bool is_key_of_texts(std::string_view key);

// What a body costs. Measured when the request is created, and checked when it is sent, because the budget belongs to
// the runtime.
class Cost {
  public:
    struct Entry {
        Expense expense;
        std::uint64_t amount;
        std::string where;  // the body's key with that amount
    };

    // `object`: the body, with valid keys and types. Throws Failure with INVALID_REQUEST.
    static Cost of_body(const json::Json &object, std::size_t bytes, std::uint32_t choices);

    // Also counts the bytes and values of the body that the object was converted from.
    void add_original(const json::Json &object, std::size_t bytes);

    const std::vector<Entry> &entries() const { return entries_; }

  private:
    void add(Expense expense, std::uint64_t amount, std::string_view where);
    void add_messages(const json::Json &messages);
    void add_strings(const json::Json &object);
    void add_lists(const json::Json &object, std::uint32_t choices);
    void add_tools(const json::Json &object, std::uint32_t n);
    void add_grammars(const json::Json &object, std::uint32_t n);
    void add_grammar(const json::Json &object, std::string_view key, std::string_view where,
                     std::uint32_t n);
    void add_measured(const GrammarCost &cost, std::string_view where, std::uint32_t n);

    std::vector<Entry> entries_;  // without amounts of 0
};

class Budget {
  public:
    Budget();
    // `limits`: the validated "limits.request" of a configuration.
    explicit Budget(const json::Json &limits);

    // Throws Failure with INVALID_REQUEST for the first expense that is too high.
    void check(const Cost &cost) const;

  private:
    std::array<std::uint64_t, expense_count> limits_;
};

}  // namespace dynamo
