// SPDX-License-Identifier: Apache-2.0
#include "core/schema.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.hpp"
#include "core/utf8.hpp"

namespace dynamo {
namespace {

using json::Json;
using json::OrderedJson;

const char *expected(Type type) {
    switch (type) {
        case Type::boolean:
            return "true or false";
        case Type::integer:
            return "an integer";
        case Type::number:
            return "a number";
        case Type::string:
            return "a string";
        case Type::object:
            return "an object";
        case Type::array:
            return "an array";
        case Type::string_or_array:
            return "a string or an array";
        case Type::string_or_object:
            return "a string or an object";
        case Type::any:
            break;
    }
    return "any value";
}

bool fits(const Json &value, Type type) {
    switch (type) {
        case Type::boolean:
            return value.is_boolean();
        case Type::integer:
            return value.is_number_integer();
        case Type::number:
            return value.is_number();
        case Type::string:
            return value.is_string();
        case Type::object:
            return value.is_object();
        case Type::array:
            return value.is_array();
        case Type::string_or_array:
            return value.is_string() || value.is_array();
        case Type::string_or_object:
            return value.is_string() || value.is_object();
        case Type::any:
            break;
    }
    return true;
}

std::vector<std::string> split_choices(const char *choices) {
    std::vector<std::string> result;
    std::string_view rest = choices;
    while (true) {
        const std::size_t bar = rest.find('|');
        result.emplace_back(rest.substr(0, bar));
        if (bar == rest.npos) {
            return result;
        }
        rest.remove_prefix(bar + 1);
    }
}

std::string plain(double value) {
    if (value == std::floor(value) && std::fabs(value) < 1e15) {
        return std::to_string(static_cast<long long>(value));
    }
    std::string text = std::to_string(value);
    text.erase(text.find_last_not_of('0') + 1);
    return text;
}

std::string range(const Key &key) {
    const bool low = std::isfinite(key.minimum);
    const bool high = std::isfinite(key.maximum);
    if (low && high) {
        return "from " + plain(key.minimum) + " to " + plain(key.maximum);
    }
    return low ? "at least " + plain(key.minimum) : "at most " + plain(key.maximum);
}

void check_value(const Json &value, const Key &key, std::int32_t status, const char *what,
                 const std::string &path) {
    const std::string subject = std::string("\"") + path + "\" of the " + what + " must be ";
    if (!fits(value, key.type)) {
        throw Failure(status, subject + expected(key.type) + ", not " + json::type_name(value));
    }
    if (value.is_number()) {
        const double number = value.get<double>();
        if (number < key.minimum || number > key.maximum) {
            throw Failure(status, subject + range(key) + ", not " + value.dump());
        }
    }
    if (key.choices != nullptr && value.is_string()) {
        const auto choices = split_choices(key.choices);
        if (std::find(choices.begin(), choices.end(), value.get_ref<const std::string &>()) ==
            choices.end()) {
            throw Failure(status,
                          subject + "one of " + join(choices) + ", not " + json::dump(value));
        }
    }
    if (key.members.empty()) {
        return;
    }
    if (value.is_object()) {
        check(value, key.members, status, what, path + ".");
    }
    if (value.is_array()) {
        for (std::size_t i = 0; i < value.size(); ++i) {
            const std::string item = path + "[" + std::to_string(i) + "]";
            if (!value[i].is_object()) {
                throw Failure(status, "\"" + item + "\" of the " + what +
                                          " must be an object, not " + json::type_name(value[i]));
            }
            check(value[i], key.members, status, what, item + ".");
        }
    }
}

// Edits that turn one name into another: insertions, deletions, replacements, and swaps of
// neighbours (optimal string alignment).
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::vector<std::size_t>> cost(a.size() + 1,
                                               std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) {
        for (std::size_t j = 0; j <= b.size(); ++j) {
            if (i == 0 || j == 0) {
                cost[i][j] = i + j;
                continue;
            }
            const std::size_t replace = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replace});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
            }
        }
    }
    return cost[a.size()][b.size()];
}

const char *schema_type(Type type) {
    switch (type) {
        case Type::boolean:
            return "boolean";
        case Type::integer:
            return "integer";
        case Type::number:
            return "number";
        case Type::string:
            return "string";
        case Type::object:
            return "object";
        case Type::array:
            return "array";
        default:
            return nullptr;
    }
}

}  // namespace

void check(const Json &object, std::span<const Key> keys, std::int32_t status, const char *what,
           const std::string &where) {
    for (const auto &[name, value] : object.items()) {
        // By its own name: clang before 16 lets no lambda see a structured binding.
        const auto known = std::find_if(keys.begin(), keys.end(), [&given = name](const Key &key) {
            return given == key.name;
        });
        if (known == keys.end()) {
            std::vector<std::string> names;
            for (const Key &key : keys) {
                names.emplace_back(key.name);
            }
            const std::string near = nearest(name, names);
            throw Failure(status, "unknown key \"" + where + as_utf8(name.substr(0, 100)) +
                                      "\" in the " + what +
                                      (near.empty() ? "; known keys: " + join(names)
                                                    : "; did you mean \"" + where + near + "\"?"));
        }
        if (!(value.is_null() && known->nullable)) {
            check_value(value, *known, status, what, where + name);
        }
    }
}

OrderedJson to_schema(std::span<const Key> keys) {
    OrderedJson properties = OrderedJson::object();
    for (const Key &key : keys) {
        OrderedJson property;
        if (key.type == Type::object && !key.members.empty()) {
            property = to_schema(key.members);
        } else if (const char *type = schema_type(key.type)) {
            property["type"] = type;
        } else if (key.type == Type::string_or_array) {
            property["type"] = {"string", "array"};
        } else if (key.type == Type::string_or_object) {
            property["type"] = {"string", "object"};
        }
        if (key.type == Type::array && !key.members.empty()) {
            property["items"] = to_schema(key.members);
        }
        property["description"] = key.description;
        if (std::isfinite(key.minimum)) {
            property["minimum"] = key.minimum;
        }
        if (std::isfinite(key.maximum)) {
            property["maximum"] = key.maximum;
        }
        if (key.choices != nullptr) {
            property["enum"] = split_choices(key.choices);
        }
        properties[key.name] = std::move(property);
    }
    return {
        {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

std::string nearest(std::string_view name, std::span<const std::string> candidates) {
    std::string best;
    // A third of the letters wrong is a typo; more is another word.
    std::size_t best_distance = std::max<std::size_t>(1, name.size() / 3) + 1;
    if (name.size() > 100) {
        return best;
    }
    for (const std::string &candidate : candidates) {
        const std::size_t edits = distance(name, candidate);
        if (edits < best_distance) {
            best_distance = edits;
            best = candidate;
        }
    }
    return best;
}

std::string join(std::span<const std::string> names) {
    std::string text;
    for (const std::string &name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text;
}

}  // namespace dynamo
