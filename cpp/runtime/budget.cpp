// SPDX-License-Identifier: Apache-2.0
#include "runtime/budget.hpp"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.hpp"
#include "runtime/grammar/cost.hpp"

namespace dynamo {
namespace {

using json::given;
using json::Json;

struct ExpenseRow {
    const char *name;
    std::uint64_t limit;
    // The words before and after the amount in an error.
    const char *verb;
    const char *unit;
    const char *description;
    double max_limit = 9007199254740991.0;  // the largest limit that a configuration may set
};

// In the order of Expense. Each limit is well above what clients send and well below what does harm, for the reason in
// its description.
constexpr std::array<ExpenseRow, expense_count> rows = {{
    {"body_bytes", json::max_size, "has", "bytes",
     "Bytes of a body. Default 67108864, which leaves room for images, and is also the maximum: a "
     "longer text is never parsed.",
     static_cast<double>(json::max_size)},
    {"values", 1000000, "has", "values",
     "Values in a body: numbers, strings, arrays, objects. Default 1000000, enough for a batch of "
     "token ids for embeddings; Python needs 30 to 100 bytes and up to a microsecond for each."},
    {"messages", 10000, "has", "messages",
     "Messages of a chat. Default 10000; a template processes each of them."},
    {"parts", 10000, "has", "parts of contents",
     "Content parts of a chat, in total. Default 10000, as for messages."},
    {"string_bytes", 65536, "has", "bytes",
     "Bytes of one string that is not part of the prompt: names, ids, roles, \"user\". Default "
     "65536; some are used in labels and log lines."},
    {"stop_strings", 256, "has", "entries",
     "Entries of \"stop\", and likewise of \"bad_words\" and \"stop_token_ids\". Default 256 "
     "(OpenAI accepts 4); each token of the answer is compared with all of them."},
    {"stop_bytes", 4096, "has a string of", "bytes",
     "Bytes of one stop string or bad word. Default 4096; that much of an answer is held back for "
     "the comparison."},
    {"logit_bias", 4096, "has", "entries",
     "Entries of \"logit_bias\". Default 4096 (OpenAI accepts 1024); engines apply them for each "
     "token."},
    {"tools", 1024, "has", "tools",
     "Tools of a chat. Default 1024; a template writes each into the prompt."},
    {"tool_bytes", 1048576, "has", "bytes",
     "Bytes of all tools of a chat, as JSON. Default 1048576: at four bytes a token they fill a "
     "context of 262144 tokens."},
    {"inputs", 2048, "has", "entries",
     "Texts of one embedding request, or prompts of one completion, times \"n\". Default 2048, as "
     "in "
     "OpenAI's API."},
    {"choices", 4096, "has", "texts",
     "Texts of \"guided_choice\". Default 4096; the engine compiles them."},
    {"grammar_bytes", 131072, "has", "bytes",
     "Bytes of a JSON Schema, a regular expression or a grammar, also of each tool; and an eighth "
     "of their sum over all choices (\"n\"). Default 131072: mistral.rs compiles that in about a "
     "second, during which other requests wait.",
     static_cast<double>(GrammarCost::max_bytes)},
    {"grammar_repetitions", 20000, "has repetitions that amount to",
     "parts when they are written out",
     "Parts that a schema, expression or grammar has when its repetitions are written out, in "
     "total over all choices (\"n\"): {n,m} times the repeated part, minItems, maxItems, "
     "minProperties, maxProperties, and copies of targets of references with other keys next to "
     "them; a thousand characters of minLength or maxLength count as one. Default 20000: "
     "mistral.rs needs half a second for a maxItems of 20000, and all memory for a minItems of "
     "1000000000."},
    {"grammar_depth", 256, "is nested, with references followed,", "levels deep",
     "Levels of nesting of a schema or expression, with references followed. Default 256: "
     "mistral.rs overflows its stack, which ends the process, at about 700."},
    {"grammar_rules", 512, "has", "rules and levels of parentheses",
     "Rules of a grammar, where a level of parentheses counts as a rule. Default 512: mistral.rs "
     "overflows its stack, which ends the process, at about 1000."},
    {"grammar_multiples", 10000,
     "has values of \"multipleOf\" whose digits have the least common multiple", "",
     "Least common multiple of the digits of all \"multipleOf\" of a schema, without zeros at the "
     "ends: 0.25 has 25. Default 10000: an engine has a state for each remainder; mistral.rs takes "
     "half a minute for 1000003."},
}};

constexpr std::uint64_t max_cost = GrammarCost::max_cost;

std::uint64_t scaled(std::uint64_t amount, std::uint32_t n) {
    return amount > max_cost / std::max(n, 1U) ? max_cost : amount * n;
}

// Counts a value and all values in it.
std::uint64_t count_values(const Json &value) {
    std::uint64_t count = 1;
    if (value.is_structured()) {
        for (const Json &item : value) {
            count += item.is_structured() ? count_values(item) : 1;
        }
    }
    return count;
}

std::size_t longest(const Json &strings) {
    std::size_t result = 0;
    for (const Json &one : strings) {
        if (const auto *const text = one.get_ptr<const std::string *>()) {
            result = std::max(result, text->size());
        }
    }
    return result;
}

}  // namespace

constinit const std::array<Key, expense_count> budget_keys = [] {
    std::array<Key, expense_count> keys{};
    std::transform(rows.begin(), rows.end(), keys.begin(), [](const ExpenseRow &row) {
        return Key{row.name, Type::integer, row.description, 1, row.max_limit};
    });
    return keys;
}();

bool is_key_of_texts(std::string_view key) {
    static constexpr std::string_view keys[] = {"query",  "prompt",  "input",     "text_1",
                                                "text_2", "queries", "documents", "items",
                                                "data_1", "data_2"};
    return std::ranges::find(keys, key) != std::end(keys);
}

void Cost::add(Expense expense, std::uint64_t amount, std::string_view where) {
    if (amount > 0) {
        entries_.push_back({expense, amount, std::string(where)});
    }
}

Cost Cost::of_body(const Json &object, std::size_t bytes, std::uint32_t choices) {
    Cost cost;
    cost.add(Expense::body_bytes, bytes, "");
    cost.add(Expense::values, count_values(object), "");
    if (const Json *const messages = given(object, "messages")) {
        cost.add_messages(*messages);
    }
    cost.add_strings(object);
    cost.add_lists(object, choices);
    cost.add_tools(object, choices);
    cost.add_grammars(object, choices);
    return cost;
}

void Cost::add_original(const Json &object, std::size_t bytes) {
    add(Expense::body_bytes, bytes, "");
    add(Expense::values, count_values(object), "");
}

void Cost::add_messages(const Json &messages) {
    std::uint64_t parts = 0;
    std::size_t longest_name = 0;
    for (const Json &message : messages) {
        for (const auto &[key, value] : message.items()) {
            if (value.is_array()) {
                parts += value.size();
            }
            if (const auto *const text = value.get_ptr<const std::string *>();
                text != nullptr && (key == "role" || key == "name" || key == "tool_call_id")) {
                longest_name = std::max(longest_name, text->size());
            }
        }
    }
    add(Expense::messages, messages.size(), "messages");
    add(Expense::parts, parts, "messages");
    add(Expense::string_bytes, longest_name, "messages");
}

// Adds the strings that are not part of the prompt and have no limit of their own.
void Cost::add_strings(const Json &object) {
    static constexpr std::string_view keys[] = {"model",
                                                "user",
                                                "request_id",
                                                "traceparent",
                                                "tracestate",
                                                "adapter",
                                                "cache_salt",
                                                "reasoning_effort",
                                                "service_tier",
                                                "prompt_cache_key",
                                                "prompt_cache_retention",
                                                "safety_identifier",
                                                "verbosity",
                                                "tool_choice",
                                                "function_call",
                                                "encoding_format"};
    for (const auto &[key, value] : object.get_ref<const Json::object_t &>()) {
        const auto *const text = value.get_ptr<const std::string *>();
        if (text != nullptr && std::ranges::find(keys, key) != std::end(keys)) {
            add(Expense::string_bytes, text->size(), key);
        }
    }
}

void Cost::add_lists(const Json &object, std::uint32_t choices) {
    for (const std::string_view key : {"stop", "bad_words", "stop_token_ids"}) {
        if (const Json *const value = given(object, key)) {
            const auto *const text = value->get_ptr<const std::string *>();
            add(Expense::stop_strings, text != nullptr ? 1 : value->size(), key);
            add(Expense::stop_bytes, text != nullptr ? text->size() : longest(*value), key);
        }
    }
    if (const Json *const bias = given(object, "logit_bias")) {
        add(Expense::logit_bias, bias->size(), "logit_bias");
    }
    for (const auto &[key, value] : object.get_ref<const Json::object_t &>()) {
        if (value.is_array() && !value.empty() && !value[0].is_number() && is_key_of_texts(key) &&
            !object.contains("messages")) {
            add(Expense::inputs, value.size(), key);
            if (choices > value.size()) {
                add(Expense::inputs, choices, "prompt\" times \"n");
            }
        }
    }
}

void Cost::add_measured(const GrammarCost &cost, std::string_view where, std::uint32_t n) {
    // A schema is compiled once per choice; the time for eight of them is acceptable.
    add(Expense::grammar_bytes, std::max(cost.bytes, scaled(cost.bytes, n) / 8), where);
    add(Expense::grammar_repetitions, scaled(cost.repetitions, n), where);
    add(Expense::grammar_depth, cost.depth, where);
    add(Expense::grammar_rules, cost.rules, where);
    add(Expense::grammar_multiples, cost.multiples, where);
}

void Cost::add_tools(const Json &object, std::uint32_t n) {
    for (const std::string_view key : {"tools", "functions"}) {
        const Json *const tools = given(object, key);
        if (tools == nullptr) {
            continue;
        }
        add(Expense::tools, tools->size(), key);
        add(Expense::tool_bytes, json::dump(*tools).size(), key);
        for (std::size_t i = 0; i < tools->size(); ++i) {
            // The whole tool, because engines may support tools other than functions. And the parameters separately,
            // because references in them are relative to them.
            const std::string where = std::string(key) + "[" + std::to_string(i) + "]";
            add_measured(GrammarCost::of_schema((*tools)[i]), where, n);
            const Json &tool = (*tools)[i];
            const Json *const function = tool.is_object() ? given(tool, "function") : nullptr;
            for (const Json *const owner : {&tool, function}) {
                if (owner != nullptr && owner->is_object()) {
                    add_grammar(*owner, "parameters", where + ".parameters", n);
                }
            }
        }
    }
}

void Cost::add_grammars(const Json &object, std::uint32_t n) {
    for (const std::string_view key :
         {"guided_json", "guided_regex", "guided_grammar", "guided_choice"}) {
        add_grammar(object, key, key, n);
    }
    for (const std::string_view key : {"response_format", "structured_outputs"}) {
        const Json *const format = given(object, key);
        if (format == nullptr) {
            continue;
        }
        // Its members "schema" and "json_schema" may be strings of JSON.
        add_measured(GrammarCost::of_schema(*format), key, n);
        const std::string before = std::string(key) + ".";
        for (const std::string_view member : {"json", "regex", "grammar", "choice", "schema",
                                              "json_schema", "structural_tag", "pattern"}) {
            add_grammar(*format, member, before + std::string(member), n);
        }
        if (const Json *const inner = given(*format, "json_schema");
            inner != nullptr && inner->is_object()) {
            add_grammar(*inner, "schema", before + "json_schema.schema", n);
        }
    }
}

void Cost::add_grammar(const Json &object, std::string_view key, std::string_view where,
                       std::uint32_t n) {
    const Json *const value = given(object, key);
    if (value == nullptr) {
        return;
    }
    std::string_view kind = where;
    kind.remove_prefix(kind.find_last_of("._") == kind.npos ? 0 : kind.find_last_of("._") + 1);
    GrammarCost cost;
    if (kind == "choice") {
        if (!value->is_array()) {
            return;
        }
        add(Expense::choices, value->size(), where);
        for (const Json &one : *value) {
            if (const auto *const text = one.get_ptr<const std::string *>()) {
                cost.bytes += text->size();
            }
        }
    } else if (kind == "regex" || kind == "pattern" || kind == "grammar") {
        const auto *const text = value->get_ptr<const std::string *>();
        if (text == nullptr) {
            return;
        }
        cost = kind == "grammar" ? GrammarCost::of_grammar(*text) : GrammarCost::of_regex(*text);
    } else {
        cost = GrammarCost::of_schema(*value);
    }
    add_measured(cost, where, n);
}

Budget::Budget() : Budget(Json::object()) {}

Budget::Budget(const Json &limits) {
    for (std::size_t i = 0; i < expense_count; ++i) {
        limits_[i] = limits.value(rows[i].name, rows[i].limit);
    }
}

void Budget::check(const Cost &cost) const {
    for (const Cost::Entry &entry : cost.entries()) {
        const auto at = static_cast<std::size_t>(entry.expense);
        if (entry.amount <= limits_[at]) {
            continue;
        }
        const ExpenseRow &row = rows[at];
        throw Failure(
            DYNAMO_ERROR_INVALID_REQUEST,
            (entry.where.empty() ? "the request" : "\"" + entry.where + "\" of the request") + " " +
                row.verb + " " +
                (entry.amount >= max_cost ? "too many" : std::to_string(entry.amount)) +
                (*row.unit == '\0' ? "" : " ") + row.unit + "; at most " +
                std::to_string(limits_[at]) + " are allowed (\"limits.request." + row.name +
                "\" of the configuration)");
    }
}

}  // namespace dynamo
