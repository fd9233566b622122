// SPDX-License-Identifier: Apache-2.0
// Tables of known keys: the one description that checks JSON objects and writes their JSON Schema.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "core/json.hpp"

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
    const char *name;
    Type type;
    const char *description;
    // Bounds of numbers, inclusive.
    double minimum = -std::numeric_limits<double>::infinity();
    double maximum = std::numeric_limits<double>::infinity();
    // Allowed strings, separated by '|'; nullptr for any.
    const char *choices = nullptr;
    // Keys of an object, or of each object in an array; empty for any.
    std::span<const Key> members = {};
    // null means the same as leaving the key out.
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

// Throws Failure with `status` for an unknown key (naming the nearest known one), a wrong type, or
// a value out of range. `where` is the path for messages: "" or "stream.".
void check(const json::Json &object, std::span<const Key> keys, std::int32_t status,
           const char *what, const std::string &where = "");

json::OrderedJson to_schema(std::span<const Key> keys);

// The candidate most like a name, if it is like it at all; else "".
std::string nearest(std::string_view name, std::span<const std::string> candidates);

// "a, b, c"
std::string join(std::span<const std::string> names);

}  // namespace dynamo
