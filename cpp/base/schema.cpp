// SPDX-License-Identifier: Apache-2.0
#include "base/schema.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/decimal.hpp"
#include "base/error.hpp"
#include "base/utf8.hpp"

namespace dynamo {
namespace {

using json::Json;
using json::OrderedJson;

struct TypeRow {
    const char *expected;  // for messages
    const char *schema;    // the types of JSON Schema, separated by '|'
    bool (*matches)(const Json &value);
};

// In the order of Type.
constexpr TypeRow type_rows[] = {
    {"any value", nullptr, [](const Json &) { return true; }},
    {"true or false", "boolean", [](const Json &value) { return value.is_boolean(); }},
    {"an integer", "integer", [](const Json &value) { return value.is_number_integer(); }},
    {"a number", "number", [](const Json &value) { return value.is_number(); }},
    {"a string", "string", [](const Json &value) { return value.is_string(); }},
    {"an object", "object", [](const Json &value) { return value.is_object(); }},
    {"an array", "array", [](const Json &value) { return value.is_array(); }},
    {"a string or an array", "string|array",
     [](const Json &value) { return value.is_string() || value.is_array(); }},
    {"a string or an object", "string|object",
     [](const Json &value) { return value.is_string() || value.is_object(); }},
};

static_assert(std::size(type_rows) == static_cast<std::size_t>(Type::string_or_object) + 1);

const TypeRow &row_of(Type type) {
    return type_rows[static_cast<std::size_t>(type)];
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

// No double equals the largest std::int64_t, so a bound of 2^63 stands for it.
bool is_int64_limit(double bound) {
    return bound == 9223372036854775808.0;
}

// Whether an integer is within bounds. Converting a large one to double would round it.
bool is_within(const Json &integer, double minimum, double maximum) {
    constexpr auto max = std::numeric_limits<std::int64_t>::max();
    if (integer.is_number_unsigned()) {
        const auto value = integer.get<std::uint64_t>();
        if (value > static_cast<std::uint64_t>(max)) {
            return static_cast<double>(value) <= maximum && !is_int64_limit(maximum);
        }
    }
    const auto value = integer.get<std::int64_t>();
    const bool is_above_minimum =
        minimum < -9223372036854775807.0 ||
        (minimum <= 9007199254740992.0 && value >= static_cast<std::int64_t>(std::ceil(minimum)));
    return is_above_minimum && (maximum >= 9223372036854775808.0 ||
                                value <= static_cast<std::int64_t>(std::floor(maximum)));
}

std::string format_bound(double value) {
    if (value == std::floor(value) && std::fabs(value) < 1e18) {
        return std::to_string(static_cast<long long>(value));
    }
    return is_int64_limit(value) ? "9223372036854775807" : decimal::print(value);
}

std::string format_range(const Key &key) {
    const bool low = std::isfinite(key.minimum);
    const bool high = std::isfinite(key.maximum);
    if (low && high) {
        return "from " + format_bound(key.minimum) + " to " + format_bound(key.maximum);
    }
    return low ? "at least " + format_bound(key.minimum) : "at most " + format_bound(key.maximum);
}

void check_value(const Json &value, const Key &key, std::int32_t status, const char *what,
                 const std::string &path) {
    const auto subject = [&] { return "\"" + path + "\" of the " + what + " must be "; };
    if (!row_of(key.type).matches(value)) {
        throw Failure(status,
                      subject() + row_of(key.type).expected + ", not " + json::type_name(value));
    }
    if (value.is_number()) {
        const double number = value.get<double>();
        const bool is_good = value.is_number_integer()
                                 ? is_within(value, key.minimum, key.maximum)
                                 : number >= key.minimum && number <= key.maximum;
        if (!is_good) {
            throw Failure(status, subject() + format_range(key) + ", not " + value.dump());
        }
    }
    // Names and paths of a configuration reach C functions, which would truncate them at a NUL.
    if (status == DYNAMO_ERROR_INVALID_CONFIG && value.is_string() &&
        value.get_ref<const std::string &>().find('\0') != std::string::npos) {
        throw Failure(status, "\"" + path + "\" of the " + what +
                                  " must not contain a NUL character: " + json::dump(value));
    }
    if (key.choices != nullptr && value.is_string()) {
        const auto choices = split_choices(key.choices);
        const auto &given = value.get_ref<const std::string &>();
        if (std::find(choices.begin(), choices.end(), given) == choices.end()) {
            throw Failure(status, subject() + "one of " + join(choices) + ", not " +
                                      (status == DYNAMO_ERROR_INVALID_REQUEST
                                           ? json::dump(value)
                                           : "\"" + redacted(given) + "\""));
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

// Edit distance: insertions, deletions, replacements, and swaps of adjacent characters (optimal string alignment).
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

}  // namespace

void add_names(std::vector<std::string> &names, std::span<const Key> keys) {
    for (const Key &key : keys) {
        names.emplace_back(key.name);
    }
}

void reject_unknown(std::string_view name, std::span<const std::string> known, std::int32_t status,
                    const std::string &what, const std::string &where) {
    const std::string suggestion = nearest(name, known);
    // The body of a request is not secret.
    const bool may_show = status == DYNAMO_ERROR_INVALID_REQUEST || !suggestion.empty();
    const std::string given = may_show ? as_utf8(name.substr(0, 100)) : redacted(name);
    throw Failure(status,
                  "unknown key \"" + where + given + "\" in the " + what +
                      (suggestion.empty() ? "; known keys: " + join(known)
                                          : "; did you mean \"" + where + suggestion + "\"?"));
}

void check(const Json &object, std::span<const Key> keys, std::int32_t status, const char *what,
           const std::string &where, std::vector<std::string> *unknown) {
    for (const auto &[name, value] : object.items()) {
        // clang before 16 cannot capture a structured binding.
        const auto known = std::find_if(keys.begin(), keys.end(), [&given = name](const Key &key) {
            return given == key.name;
        });
        if (known == keys.end()) {
            if (unknown != nullptr) {
                unknown->push_back(name);
                continue;
            }
            std::vector<std::string> names;
            add_names(names, keys);
            reject_unknown(name, names, status, what, where);
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
        } else if (const char *const types = row_of(key.type).schema) {
            const std::vector<std::string> names = split_choices(types);
            property["type"] = names.size() == 1 ? OrderedJson(names.front()) : OrderedJson(names);
        }
        if (key.type == Type::string_or_object && !key.members.empty()) {
            OrderedJson members = to_schema(key.members);
            members.erase("type");
            property.update(members);
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
        properties[std::string(key.name)] = std::move(property);
    }
    return {
        {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

std::string nearest(std::string_view name, std::span<const std::string> candidates) {
    std::string best;
    // A name with more than a third of its letters wrong is another word, not a typo.
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

std::string redacted(std::string_view name) {
    const auto is_letter = [](char sign) {
        return (sign >= 'a' && sign <= 'z') || (sign >= 'A' && sign <= 'Z') || sign == '_';
    };
    const auto is_upper = [](char sign) { return sign >= 'A' && sign <= 'Z'; };
    const auto is_identifier = [&](char sign) {
        return is_letter(sign) || (sign >= '0' && sign <= '9') || sign == '.';
    };
    const std::size_t colon = name.find(':');
    const auto all = [](std::string_view text, const auto &matches) {
        return !text.empty() && std::all_of(text.begin(), text.end(), matches);
    };
    if (name.size() <= 100 && colon != name.npos && is_letter(name.front()) &&
        all(name.substr(0, colon), is_identifier) && all(name.substr(colon + 1), is_identifier)) {
        return std::string(name);  // module:Class
    }
    const bool has_upper = std::any_of(name.begin(), name.end(), is_upper);
    const bool is_word = name.size() <= 32 && all(name, [&](char sign) {
                             return is_letter(sign) || sign == '.' || sign == '-' || sign == ' ';
                         });
    const bool is_long = name.size() > 16 || name.find('-') != name.npos;
    return is_word && !(has_upper && is_long) ? std::string(name) : "***";
}

std::string join(std::span<const std::string> names) {
    std::string text;
    for (const std::string &name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text;
}

}  // namespace dynamo
