// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine_registry.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/schema.hpp"
#include "base/utf8.hpp"
#include "runtime/engine_library.hpp"

namespace dynamo {
namespace {

struct Registry {
    std::mutex mutex;
    std::map<std::string, std::shared_ptr<EngineType>> types;
};

// Never freed: engines may be used while the process exits.
Registry &registry() {
    static Registry *const instance = new Registry;
    return *instance;
}

std::atomic<engine_registry::Fallback> the_fallback{nullptr};

std::shared_ptr<EngineType> find(const std::string &name) {
    const std::lock_guard lock(registry().mutex);
    const auto found = registry().types.find(name);
    return found == registry().types.end() ? nullptr : found->second;
}

std::shared_ptr<EngineType> find_or_load(const ModelConfig &config) {
    if (!config.library.empty()) {
        return engine_library::load(config.library);
    }
    if (auto type = find(config.engine)) {
        return type;
    }
    const auto known = engine_registry::names();
    const std::string suggestion = nearest(config.engine, known);
    if (const auto fallback = the_fallback.load()) {
        try {
            if (auto type = find(fallback(config))) {
                return type;
            }
        } catch (const Failure &failure) {
            throw failure.with_context(
                "the engine \"" + redacted(config.engine) +
                "\" is not one of the engines without Python (" + join(known) + ")" +
                (suggestion.empty() ? "" : "; did you mean \"" + suggestion + "\"?") + "; and ");
        }
    }
    throw Failure(DYNAMO_ERROR_ENGINE_NOT_FOUND,
                  "no engine is called \"" + redacted(config.engine) + "\"; " +
                      (suggestion.empty() ? "" : "did you mean \"" + suggestion + "\"? ") +
                      "Known engines: " + join(known));
}

// Names the library of an engine by its absolute path, for a runtime that may be started in another working directory.
void set_library(json::OrderedJson &inner, const ModelConfig &config) {
    if (!config.library.empty()) {
        inner["engine"] = {{"library", config.library}};
    }
}

// Configures the Python engine that provides the pipeline for a token-level engine. It runs that engine in a runtime
// without a pipeline.
ModelConfig with_pipeline(const ModelConfig &config) {
    json::OrderedJson inner = json::parse_ordered(config.text, "configuration");
    inner["pipeline"] = "off";
    set_library(inner, config);
    json::OrderedJson outer = {{"engine", "dynamo_llm.runtime.engines.native:NativeTokens"},
                               {"options", {{"config", inner}, {"name", config.engine}}}};
    for (const char *key : {"model", "python", "trust_request_chat_template", "templates",
                            "tool_call_parser", "reasoning_parser"}) {
        if (inner.contains(key)) {
            outer[key] = inner[key];
        }
    }
    ModelConfig result = config;
    result.library.clear();
    result.engine = outer["engine"].get<std::string>();
    result.text = json::dump(outer);
    return result;
}

// Configures the Python engine that runs an engine in a child process.
ModelConfig in_child(const ModelConfig &config) {
    json::OrderedJson outer = json::parse_ordered(config.text, "configuration");
    json::OrderedJson inner = outer;
    inner.erase("isolation");
    inner.erase("isolation_options");
    set_library(inner, config);
    outer["options"] = {{"config", std::move(inner)}, {"name", config.engine}};
    if (outer.contains("isolation_options")) {
        outer["options"].update(outer["isolation_options"]);
    }
    ModelConfig result = config;
    result.library.clear();
    result.engine = "dynamo_llm.runtime.isolation.engine:IsolatedEngine";
    outer["engine"] = result.engine;
    result.text = json::dump(outer);
    return result;
}

}  // namespace

namespace engine_registry {
namespace {

thread_local constinit BuiltInScope::Kind current_scope = BuiltInScope::Kind::none;

}  // namespace

BuiltInScope::BuiltInScope(Kind kind) noexcept {
    current_scope = kind;
}
BuiltInScope::~BuiltInScope() {
    current_scope = Kind::none;
}

std::shared_ptr<EngineType> make_type(const dynamo_engine_t &known) {
    auto type = std::make_shared<EngineType>();
    type->functions = known;
    const dynamo_engine_t &table = type->functions;
    const auto require = [&](bool is_present, const char *member) {
        if (!is_present) {
            reject_argument(std::string("engine.") + member +
                            " is NULL; the engine must have this function");
        }
    };
    require(table.start != nullptr, "start");
    const bool is_raw = table.kind == DYNAMO_ENGINE_DATA;
    require(is_raw ? table.generate_data != nullptr : table.generate != nullptr,
            is_raw ? "generate_data" : "generate");
    require(table.cancel != nullptr, "cancel");
    require(table.stop != nullptr, "stop");
    if (table.kind < DYNAMO_ENGINE_TEXT || table.kind > DYNAMO_ENGINE_DATA) {
        reject_argument(
            "engine.kind is " + std::to_string(table.kind) +
            "; it must be DYNAMO_ENGINE_TEXT, DYNAMO_ENGINE_TOKENS or DYNAMO_ENGINE_DATA");
    }
    return type;
}

void add(const char *name, const dynamo_engine_t &known, void *user,
         dynamo_release_callback_t release) {
    const std::string text = name == nullptr ? "" : name;
    const bool is_valid_name = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        // Not isalnum(), which depends on the host's locale.
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               c == '-' || c == '_';
    });
    if (!is_valid_name) {
        reject_argument("an engine's name must be letters, digits, '-' and '_', not \"" +
                        as_utf8(text) + "\"");
    }
    auto type = make_type(known);
    type->is_built_in = current_scope != BuiltInScope::Kind::none;
    type->is_hosted = current_scope == BuiltInScope::Kind::hosted;
    if (!type->is_built_in && text == "python") {
        reject_argument("\"python\" is the name of a built-in engine; choose another name");
    }
    const std::lock_guard lock(registry().mutex);
    if (!registry().types.emplace(text, type).second) {
        reject_argument("an engine called \"" + text + "\" is already registered");
    }
    type->user = user;
    type->release = release;
}

void remove(const char *name) {
    std::shared_ptr<EngineType> type;  // released without the lock
    const std::lock_guard lock(registry().mutex);
    const auto found = registry().types.find(name == nullptr ? "" : name);
    if (found == registry().types.end()) {
        throw Failure(DYNAMO_ERROR_ENGINE_NOT_FOUND, std::string("no engine is registered as \"") +
                                                         (name == nullptr ? "" : name) + "\"");
    }
    if (found->second->is_built_in) {
        throw Failure(
            DYNAMO_ERROR_INVALID_ARGUMENT,
            std::string("\"") + name + "\" is a built-in engine, which cannot be unregistered");
    }
    type = std::move(found->second);
    registry().types.erase(found);
}

Resolved resolve(const ModelConfig &config) {
    Resolved resolved{nullptr, config.text};
    if (config.is_isolated) {
        const ModelConfig outer = in_child(config);
        try {
            resolved = {find_or_load(outer), outer.text};
        } catch (const Failure &failure) {
            throw failure.with_context("\"isolation\": \"process\" of the engine \"" +
                                       config.engine + "\" needs Python: ");
        }
    } else {
        resolved.type = find_or_load(config);
    }
    if (resolved.type->functions.kind == DYNAMO_ENGINE_TOKENS && config.has_pipeline) {
        const ModelConfig outer = with_pipeline(config);
        resolved = {find_or_load(outer), outer.text};
    } else if (!config.parser_key.empty() && !resolved.type->is_hosted) {
        reject_config("\"" + config.parser_key +
                      "\" of the configuration needs a token-level engine with its pipeline, "
                      "which the engine \"" +
                      config.engine + "\" is not");
    }
    return resolved;
}

void set_fallback(Fallback fallback) noexcept {
    the_fallback = fallback;
}

std::vector<std::string> names() {
    const std::lock_guard lock(registry().mutex);
    std::vector<std::string> result;
    for (const auto &[name, type] : registry().types) {
        result.push_back(name);
    }
    return result;
}

}  // namespace engine_registry
}  // namespace dynamo
