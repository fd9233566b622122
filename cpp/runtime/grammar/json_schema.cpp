// SPDX-License-Identifier: Apache-2.0
// The cost of a JSON Schema.
#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "runtime/grammar/cost.hpp"
#include "runtime/grammar/reference_depth.hpp"
#include "runtime/grammar/repetition.hpp"

namespace dynamo {
namespace {

using grammar::Target;
using json::Json;

// The characters of a string are repetitions of one small part, which engines expand lazily.
constexpr double characters_per_part = 1000;

// Keys that do not change the schema that a "$ref" next to them refers to.
constexpr std::array annotations = {"$ref",     "$comment",   "$defs",       "$schema",
                                    "default",  "deprecated", "definitions", "description",
                                    "examples", "title"};

// Returns the digits of a number without zeros at its ends: 25 for 2500 and for 0.025.
std::uint64_t digits_of(const Json &number) {
    const std::string text = number.dump();
    double digits = 0;
    std::size_t zeros = 0;
    for (const char c : text) {
        if (c == 'e' || c == 'E') {
            break;
        }
        if (c == '0') {
            ++zeros;
        } else if (c >= '0' && c <= '9') {
            for (; digits > 0 && zeros > 0; --zeros) {
                digits *= 10;
            }
            zeros = 0;
            digits = digits * 10 + (c - '0');
        }
    }
    return GrammarCost::clamp(digits);
}

class Schema {
  public:
    explicit Schema(const Json &root) : root_(root) {}

    GrammarCost cost() {
        target_of(root_);
        // Walking a target may add more targets.
        for (std::size_t i = 0; i < targets_.size(); ++i) {
            Target target;
            walk(*places_[i], 1, false, target);
            targets_[i] = std::move(target);
        }
        expanded_.assign(targets_.size(), -1);
        GrammarCost cost;
        cost.repetitions = GrammarCost::clamp(expand(0) - targets_[0].parts);
        cost.depth = grammar::depth_of(targets_);
        cost.multiples = multiples_;
        return cost;
    }

  private:
    std::size_t target_of(const Json &value) {
        const auto [found, is_new] = numbers_.emplace(&value, targets_.size());
        if (is_new) {
            targets_.emplace_back();
            places_.push_back(&value);
        }
        return found->second;
    }

    // Resolves a "$ref" such as "#/$defs/a"; nullptr if it does not refer into this schema.
    const Json *resolve(std::string_view reference) const {
        if (reference.empty() || reference[0] != '#') {
            return nullptr;
        }
        const Json *value = &root_;
        std::string_view rest = reference.substr(1);
        while (!rest.empty() && rest != "/") {
            rest.remove_prefix(rest[0] == '/' ? 1 : 0);
            const std::size_t end = std::min(rest.find('/'), rest.size());
            value = member(*value, std::string(rest.substr(0, end)));
            rest.remove_prefix(end);
            if (value == nullptr) {
                return nullptr;
            }
        }
        return value;
    }

    static const Json *member(const Json &value, std::string name) {
        if (value.is_array()) {
            std::size_t at = 0;
            const auto number = grammar::number_at(name, at);
            return number && at == name.size() && *number < static_cast<double>(value.size())
                       ? &value[static_cast<std::size_t>(*number)]
                       : nullptr;
        }
        if (!value.is_object()) {
            return nullptr;
        }
        if (const auto found = value.find(name); found != value.end()) {
            return &*found;
        }
        for (const auto &[escape, character] : {std::pair("~1", '/'), std::pair("~0", '~')}) {
            for (std::size_t at = 0; (at = name.find(escape, at)) != name.npos; ++at) {
                name.replace(at, 2, 1, character);
            }
        }
        const auto found = value.find(name);
        return found == value.end() ? nullptr : &*found;
    }

    // Treats each value as a schema, because the keys that hold schemas depend on the draft and the engine.
    void walk(const Json &value, std::uint64_t level, bool is_copied, Target &target) {
        target.depth = std::max(target.depth, level);
        target.parts += 1;
        if (value.is_array()) {
            for (const Json &item : value) {
                walk(item, level, is_copied, target);
            }
            return;
        }
        if (!value.is_object()) {
            return;
        }
        for (const auto &[name, item] : value.items()) {
            if (item.is_number()) {
                count_number(name, item, target);
            } else if (item.is_string() && (name == "pattern" || name == "whitespace_pattern" ||
                                            name.ends_with("_separator"))) {
                count_regex(item.get_ref<const std::string &>(), target);
            } else if (item.is_string() && name == "$ref") {
                count_reference(item.get_ref<const std::string &>(), is_copied || !is_alone(value),
                                target);
            } else if (item.is_structured() && !(item.is_array() && name == "enum")) {
                if (name == "patternProperties") {
                    for (const auto &[pattern, schema] : item.items()) {
                        count_regex(pattern, target);
                    }
                }
                walk(item, level + 1, name == "allOf", target);
            }
        }
    }

    static bool is_alone(const Json &reference) {
        return std::all_of(
            reference.items().begin(), reference.items().end(), [](const auto &item) {
                return std::find(annotations.begin(), annotations.end(), item.key()) !=
                       annotations.end();
            });
    }

    void count_number(const std::string &name, const Json &number, Target &target) {
        if (name == "multipleOf") {
            const std::uint64_t digits = digits_of(number);
            if (digits > 0) {
                const std::uint64_t common = std::gcd(multiples_, digits);
                multiples_ = GrammarCost::clamp(static_cast<double>(multiples_ / common) *
                                                static_cast<double>(digits));
            }
            return;
        }
        for (const char *bound : {"minItems", "maxItems", "minProperties", "maxProperties",
                                  "minContains", "maxContains"}) {
            if (name == bound) {
                target.repeated += std::max(number.get<double>(), 0.0);
            }
        }
        if (name == "minLength" || name == "maxLength") {
            target.repeated += std::max(number.get<double>(), 0.0) / characters_per_part;
        }
    }

    static void count_regex(const std::string &regex, Target &target) {
        const GrammarCost cost = GrammarCost::of_regex(regex);
        target.repeated += static_cast<double>(cost.repetitions);
        target.depth = std::max(target.depth, cost.depth);
    }

    void count_reference(const std::string &pointer, bool is_copied, Target &target) {
        if (const Json *const value = resolve(pointer)) {
            target.references.push_back({target_of(*value), is_copied});
        }
    }

    // Returns the parts of a target, including the targets that are copied into it.
    double expand(std::size_t at) {
        if (expanded_[at] < 0) {
            expanded_[at] = 0;  // engines reject cyclic copies
            double size = targets_[at].parts + targets_[at].repeated;
            if (++expanding_ <= grammar::max_reference_depth) {
                for (const Target::Reference &reference : targets_[at].references) {
                    size += reference.is_copied ? expand(reference.target) : 0;
                }
            } else {
                size = static_cast<double>(GrammarCost::max_cost);
            }
            --expanding_;
            expanded_[at] = std::min(size, static_cast<double>(GrammarCost::max_cost));
        }
        return expanded_[at];
    }

    const Json &root_;
    std::map<const Json *, std::size_t> numbers_;
    std::vector<Target> targets_;
    std::vector<const Json *> places_;
    std::vector<double> expanded_;
    std::uint64_t expanding_ = 0;
    std::uint64_t multiples_ = 1;
};

}  // namespace

GrammarCost GrammarCost::of_schema(const Json &schema) {
    if (const auto *const text = schema.get_ptr<const std::string *>()) {
        if (text->size() > GrammarCost::max_bytes) {
            return of_too_long(text->size());
        }
        try {
            const Json parsed = json::parse(*text, "schema");
            GrammarCost cost = parsed.is_string() ? GrammarCost() : Schema(parsed).cost();
            cost.bytes = text->size();
            return cost;
        } catch (const Failure &failure) {
            if (failure.error().message.find("nested deeper") != std::string::npos) {
                throw Failure(DYNAMO_ERROR_INVALID_REQUEST,
                              "a JSON Schema of the request: " + failure.error().message);
            }
            return {text->size(), 0, 0, 0, 0};  // the engine will report the error
        }
    }
    const std::size_t bytes = json::dump(schema).size();
    if (bytes > GrammarCost::max_bytes) {
        return of_too_long(bytes);
    }
    GrammarCost cost = Schema(schema).cost();
    cost.bytes = bytes;
    return cost;
}

}  // namespace dynamo
