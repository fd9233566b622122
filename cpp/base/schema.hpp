// SPDX-License-Identifier: Apache-2.0
// Tables of known keys, which validate JSON objects and generate their JSON Schema.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"

namespace dynamo {

enum class Type {
    any,
    boolean,
    integer,
    number,
    string,
    object,
    array,
    string_or_array,
    string_or_object,
};

struct Key {
    std::string_view name;
    Type type;
    const char *description;
    // Inclusive bounds of numbers. A maximum of 2^63 stands for the largest std::int64_t.
    double minimum = -std::numeric_limits<double>::infinity();
    double maximum = std::numeric_limits<double>::infinity();
    // The allowed strings, separated by '|'; nullptr: any.
    const char *choices = nullptr;
    // Keys of an object, or of each object in an array; empty: any.
    std::span<const Key> members = {};
    // Whether null is accepted, with the same meaning as leaving the key out.
    bool nullable = false;
};

constexpr Key one_of(const char *choices, Key key) {
    key.choices = choices;
    return key;
}
constexpr Key with_members(std::span<const Key> members, Key key) {
    key.members = members;
    return key;
}
constexpr Key or_null(Key key) {
    key.nullable = true;
    return key;
}

template <std::size_t... Sizes>
constexpr auto join_keys(const std::array<Key, Sizes> &...tables) {
    std::array<Key, (Sizes + ...)> keys{};
    auto end = keys.begin();
    ((end = std::copy(tables.begin(), tables.end(), end)), ...);
    return keys;
}

// Throws Failure with `status` for an unknown key (suggesting the nearest known one), a wrong type, or a value out of
// range. `where` is the path for messages: "" or "stream.". With `unknown`, unknown keys of the object itself are
// collected there instead of being rejected.
void check(const json::Json &object, std::span<const Key> keys, std::int32_t status,
           const char *what, const std::string &where = "",
           std::vector<std::string> *unknown = nullptr);

// Throws the Failure of check() for an unknown key. `known`: the keys to suggest.
[[noreturn]] void reject_unknown(std::string_view name, std::span<const std::string> known,
                                 std::int32_t status, const std::string &what,
                                 const std::string &where = "");

// Adds the names of keys to a list.
void add_names(std::vector<std::string> &names, std::span<const Key> keys);

json::OrderedJson to_schema(std::span<const Key> keys);

// Returns the most similar candidate, or "" if none is similar.
std::string nearest(std::string_view name, std::span<const std::string> candidates);

// Returns a name from a configuration for use in an error: "***" unless it looks like a name, because it may be an API
// key or a password in the wrong place. python/dynamo_llm/runtime/secret.py has the same rule.
std::string redacted(std::string_view name);

// Joins names: "a, b, c".
std::string join(std::span<const std::string> names);

}  // namespace dynamo
