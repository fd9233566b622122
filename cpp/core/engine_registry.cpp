// SPDX-License-Identifier: Apache-2.0
#include "core/engine_registry.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/schema.hpp"

namespace dynamo {
namespace {

struct Registry {
    std::mutex mutex;
    std::map<std::string, std::shared_ptr<EngineType>> types;
};

// Leaked: engines may be used while the process exits.
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

std::shared_ptr<EngineType> resolve(const Config &config) {
    if (auto type = find(config.engine)) {
        return type;
    }
    const auto known = engine_registry::names();
    const std::string near = nearest(config.engine, known);
    if (const auto fallback = the_fallback.load()) {
        try {
            if (auto type = find(fallback(config))) {
                return type;
            }
        } catch (const Failure &failure) {
            Error error = failure.error();
            error.message = "the engine \"" + config.engine +
                            "\" is none of those without Python (" + join(known) + ")" +
                            (near.empty() ? "" : "; did you mean \"" + near + "\"?") + "; and " +
                            error.message;
            throw Failure(std::move(error));
        }
    }
    throw Failure(DYNAMO_ERROR_ENGINE_NOT_FOUND,
                  "no engine is called \"" + config.engine + "\"; " +
                      (near.empty() ? "" : "did you mean \"" + near + "\"? ") +
                      "Known engines: " + join(known));
}

// The engine in Python that puts the pipeline around an engine of token ids, which it reaches as a runtime
// without one.
Config with_pipeline(const Config &config) {
    json::OrderedJson inner = json::OrderedJson::parse(config.text);
    inner["pipeline"] = "off";
    json::OrderedJson outer = {{"engine", "dynamo_llm.runtime.engines.native:NativeTokens"},
                               {"options", {{"config", inner}}}};
    for (const char *key : {"model", "python"}) {
        if (inner.contains(key)) {
            outer[key] = inner[key];
        }
    }
    Config result = config;
    result.engine = outer["engine"].get<std::string>();
    result.text = json::dump(outer);
    return result;
}

}  // namespace

std::shared_ptr<Engine> Engine::start(const Config &config) {
    std::shared_ptr<EngineType> type = resolve(config);
    std::string text = config.text;
    if (type->functions.kind == DYNAMO_ENGINE_TOKENS && config.has_pipeline) {
        const Config outer = with_pipeline(config);
        type = resolve(outer);
        text = outer.text;
    }
    std::shared_ptr<Engine> engine(new Engine(std::move(type), config.engine));
    last_error::set(DYNAMO_OK);
    engine->check(
        engine->type_->functions.start(engine->type_->user, text.c_str(), &engine->instance_),
        "start");
    return engine;
}

json::OrderedJson Engine::describe() const {
    const auto function = type_->functions.describe;
    const char *const text = function == nullptr ? nullptr : function(instance_);
    if (text == nullptr) {
        return json::OrderedJson::object();
    }
    try {
        return json::parse_object(text, "description", DYNAMO_ERROR_ENGINE_FAILED);
    } catch (const Failure &failure) {
        Error error = failure.error();
        error.status = DYNAMO_ERROR_ENGINE_FAILED;
        error.message =
            "what the engine \"" + name_ + "\" says of itself is no JSON object: " + error.message;
        error.layer = "engine";
        error.engine = name_;
        throw Failure(std::move(error));
    }
}

// Turns what a callback of the engine returned, and said with dynamo_engine_error(), into a
// Failure.
void Engine::check(std::int32_t status, const char *function) const {
    if (status >= 0) {
        return;
    }
    Error error = last_error::copy();
    if (error.status != status || error.message.empty()) {
        error = Error();
        error.status = status;
        error.message = std::string("the engine's ") + function + " function failed with " +
                        status_name(status) + " and said no more";
    }
    error.layer = "engine";
    error.engine = name_;
    throw Failure(std::move(error));
}

void Engine::generate(dynamo_stream_t *stream, const std::string &request_id, const Body &body) {
    const dynamo_engine_t &functions = type_->functions;
    const bool is_data = body.kind == BodyKind::data;
    if (is_data ? functions.generate_data == nullptr : functions.generate == nullptr) {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                      "the engine \"" + name_ + "\" takes " +
                          (is_data ? "OpenAI bodies, and no requests of data"
                                   : "requests of data, and no OpenAI bodies"));
    }
    last_error::set(DYNAMO_OK);
    if (is_data) {
        const dynamo_data_t data = {body.text.c_str(), body.text.size(), body.data_kind};
        check(functions.generate_data(instance_, stream, request_id.c_str(), &data),
              "generate_data");
    } else {
        check(functions.generate(instance_, stream, request_id.c_str(), body.text.c_str()),
              "generate");
    }
}

void Engine::cancel(dynamo_stream_t *stream) noexcept {
    type_->functions.cancel(instance_, stream);
}

void Engine::space(dynamo_stream_t *stream) noexcept {
    if (type_->functions.space != nullptr) {
        type_->functions.space(instance_, stream);
    }
}

void Engine::stop() noexcept {
    std::shared_ptr<EngineType> type;  // requests that ended may keep this object long after
    {
        const std::lock_guard lock(mutex_);
        type = std::move(type_);
    }
    type->functions.stop(instance_);
}

void Engine::add_metrics(std::string &text, std::set<const EngineType *> &asked) {
    // Held, so that the instance is there while it is asked.
    const std::lock_guard lock(mutex_);
    if (type_ == nullptr || type_->functions.metrics == nullptr ||
        !asked.insert(type_.get()).second) {
        return;
    }
    const auto write = [](void *context, const char *lines) {
        std::string &into = *static_cast<std::string *>(context);
        into += lines == nullptr ? "" : lines;
        if (!into.empty() && into.back() != '\n') {
            into += '\n';
        }
    };
    type_->functions.metrics(instance_, write, &text);
}

namespace engine_registry {
namespace {

thread_local bool is_adding_built_ins = false;

}  // namespace

AddingBuiltIns::AddingBuiltIns() noexcept {
    is_adding_built_ins = true;
}
AddingBuiltIns::~AddingBuiltIns() {
    is_adding_built_ins = false;
}

void add(const char *name, const dynamo_engine_t *functions, void *user,
         dynamo_release_callback_t release) {
    const auto reject = [](const std::string &message) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
    };
    const std::string text = name == nullptr ? "" : name;
    const bool is_name =
        !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
            return std::isalnum(c) || c == '-' || c == '_';
        });
    if (!is_name) {
        reject("an engine's name must be letters, digits, '-' and '_', not \"" + text + "\"");
    }
    if (functions == nullptr) {
        reject("the engine is NULL");
    }
    auto type = std::make_shared<EngineType>();
    // An older program has a shorter struct; members that it does not know are NULL.
    std::memcpy(&type->functions, functions,
                std::min(functions->struct_size, sizeof type->functions));
    const dynamo_engine_t &known = type->functions;
    const auto need = [&](bool is_there, const char *member) {
        if (!is_there) {
            reject(std::string("the engine has no ") + member + " function");
        }
    };
    if (functions->struct_size < offsetof(dynamo_engine_t, stop) + sizeof known.stop) {
        reject("engine.struct_size is " + std::to_string(functions->struct_size) +
               "; set it to sizeof(dynamo_engine_t)");
    }
    need(known.start != nullptr, "start");
    if (known.kind == DYNAMO_ENGINE_DATA) {
        need(known.generate_data != nullptr, "generate_data");
    } else {
        need(known.generate != nullptr, "generate");
    }
    need(known.cancel != nullptr, "cancel");
    need(known.stop != nullptr, "stop");
    if (known.kind < DYNAMO_ENGINE_TEXT || known.kind > DYNAMO_ENGINE_DATA) {
        reject("engine.kind is " + std::to_string(known.kind) +
               "; it is DYNAMO_ENGINE_TEXT, DYNAMO_ENGINE_TOKENS or DYNAMO_ENGINE_DATA");
    }
    type->is_built_in = is_adding_built_ins;
    if (!is_adding_built_ins && text == "python") {
        reject("\"python\" is the name of the library's own engine");
    }
    const std::lock_guard lock(registry().mutex);
    if (!registry().types.emplace(text, type).second) {
        reject("an engine called \"" + text + "\" is registered already");
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
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      std::string("\"") + name + "\" is an engine of the library itself");
    }
    type = std::move(found->second);
    registry().types.erase(found);
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
