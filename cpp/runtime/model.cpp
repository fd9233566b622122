// SPDX-License-Identifier: Apache-2.0
#include "runtime/model.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/schema.hpp"
#include "runtime/request_keys.hpp"

namespace dynamo {
namespace {

// Returns the models that an engine lists in its description as objects.
std::vector<json::OrderedJson> listed_models(const json::OrderedJson &description) {
    std::vector<json::OrderedJson> found;
    if (const auto models = description.find("models");
        models != description.end() && models->is_array()) {
        for (const json::OrderedJson &model : *models) {
            if (model.is_object() && model.contains("id") && model["id"].is_string()) {
                found.push_back(model);
            }
        }
    }
    return found;
}

std::vector<std::string> described_adapters(const json::OrderedJson &description) {
    std::vector<std::string> names;
    if (const auto adapters = description.find("adapters");
        adapters != description.end() && adapters->is_array()) {
        for (const json::OrderedJson &adapter : *adapters) {
            if (adapter.is_string()) {
                names.push_back(adapter.get<std::string>());
            }
        }
    }
    return names;
}

// Returns the control calls that an engine describes. Throws Failure with ENGINE_FAILED.
std::vector<std::string> described_calls(const json::OrderedJson &description) {
    std::vector<std::string> names;
    const auto found = description.find("calls");
    if (found == description.end() || found->is_null()) {
        return names;
    }
    const auto is_name = [](const json::OrderedJson &value) {
        if (!value.is_string()) {
            return false;
        }
        const auto &text = value.get_ref<const std::string &>();
        return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
            return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                   c == '_';
        });
    };
    if (!found->is_array() || !std::all_of(found->begin(), found->end(), is_name)) {
        throw Failure(DYNAMO_ERROR_ENGINE_FAILED,
                      "\"calls\" of the engine's description must be an array of names: letters, "
                      "digits and '_'");
    }
    for (const json::OrderedJson &name : *found) {
        names.push_back(name.get<std::string>());
    }
    return names;
}

// An engine that lets the configuration choose its device describes it. Throws Failure with INVALID_CONFIG.
void check_device(const std::string &device, const json::OrderedJson &description,
                  const std::string &engine) {
    if (!device.empty() && !description.contains("device")) {
        reject_config(
            "\"device\" of the configuration is \"" + device + "\", but the engine \"" + engine +
            "\" has no choice of devices; leave it out, or give an engine that computes in "
            "this process (docs/gpu.md)");
    }
}

}  // namespace

Model::Model(const ModelConfig &config)
    : name_(!config.name.empty()    ? config.name
            : !config.model.empty() ? config.model
                                    : config.engine),
      has_any_name_(config.name.empty()),
      path_(config.model),
      created_(seconds_since_1970()),
      engine_(Engine::start(config)) {
    try {
        const json::OrderedJson description = engine_->describe();
        for (const auto &[key, member] : {std::pair("context_length", &context_length_),
                                          std::pair("longest_token", &longest_token_)}) {
            if (const auto found = description.find(key);
                found != description.end() && found->is_number_unsigned()) {
                *member = found->get<std::uint64_t>();
            }
        }
        check_device(config.device, description, engine_->name());
        adapters_ = described_adapters(description);
        request_keys_ = request_keys::declared_by(description);
        request_keys::declare(request_keys_);
        if (!described_calls(description).empty() && !engine_->takes_calls()) {
            throw Failure(DYNAMO_ERROR_ENGINE_FAILED,
                          "the engine describes \"calls\", but its function call is NULL");
        }
        description_ = json::dump(description);
        is_dynamic_ = description.value("changes", false);
    } catch (...) {
        engine_->stop();
        throw;
    }
}

json::OrderedJson Model::description() const {
    if (is_dynamic_) {
        return engine_->describe();
    }
    const std::lock_guard lock(mutex_);
    return json::parse_ordered(description_, "description");
}

void Model::refresh() {
    if (is_dynamic_) {
        return;
    }
    const json::OrderedJson description = engine_->describe();
    if (description.empty()) {
        return;  // the engine was stopped meanwhile
    }
    std::vector<std::string> adapters = described_adapters(description);
    std::string text = json::dump(description);
    const std::lock_guard lock(mutex_);
    adapters_ = std::move(adapters);
    description_ = std::move(text);
}

void Model::check_keys(const Body &body) const {
    if (body.engine_keys.empty()) {
        return;
    }
    body.check_engine_keys(is_dynamic_ ? request_keys::declared_by(description()) : request_keys_,
                           engine_->name());
}

void Model::check_kind(BodyKind kind) const {
    const char *const name = kind == BodyKind::rerank           ? "rerank"
                             : kind == BodyKind::score          ? "score"
                             : kind == BodyKind::classification ? "classify"
                                                                : nullptr;
    if (name == nullptr || engine_->is_hosted()) {
        return;
    }
    const json::OrderedJson own = description();
    const auto found = own.find("capabilities");
    if (found == own.end() || !found->is_array() ||
        std::find(found->begin(), found->end(), name) == found->end()) {
        throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                      "the engine \"" + engine_->name() + "\" does not support \"" + name +
                          "\" requests; its description does not have this capability");
    }
}

void Model::check_call(const std::string &name) const {
    const std::vector<std::string> known = described_calls(description());
    if (std::find(known.begin(), known.end(), name) != known.end()) {
        return;
    }
    const std::string engine = "the engine \"" + engine_->name() + "\" ";
    const std::string suggestion = nearest(name, known);
    throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                  known.empty()
                      ? engine + "has no calls, so \"" + name + "\" is not supported"
                      : engine + "does not have the call \"" + name + "\"; " +
                            (suggestion.empty() ? "" : "did you mean \"" + suggestion + "\"? ") +
                            "Its calls: " + join(known));
}

void Model::check_length(const Body &body) const {
    if (!context_length_ || body.may_truncate || body.kind == BodyKind::raw) {
        return;
    }
    const std::uint64_t context = *context_length_;
    const auto reject = [&](const std::string &prompt) {
        throw Failure(DYNAMO_ERROR_CONTEXT_LENGTH, "the prompt has " + prompt +
                                                       ", but the model's context length is " +
                                                       std::to_string(context) + " tokens");
    };
    if (body.longest_ids > context) {
        reject(std::to_string(body.longest_ids) + " tokens");
    }
    // A token has at most longest_token_ bytes.
    if (longest_token_ && *longest_token_ > 0 && body.longest_text / *longest_token_ > context) {
        reject(std::to_string(body.longest_text) + " bytes, which are more than " +
               std::to_string(body.longest_text / *longest_token_) + " tokens");
    }
}

bool Model::is_called(std::string_view name) const {
    if (name == name_) {
        return true;
    }
    std::vector<std::string> names;
    add_names(names);
    return std::find(names.begin(), names.end(), name) != names.end();
}

void Model::add_names(std::vector<std::string> &names) const {
    names.push_back(name_);
    {
        const std::lock_guard lock(mutex_);
        names.insert(names.end(), adapters_.begin(), adapters_.end());
    }
    if (is_dynamic_) {
        for (const json::OrderedJson &model : listed_models(description())) {
            names.push_back(model["id"].get<std::string>());
        }
    }
}

void Model::add_json(json::OrderedJson &list) const {
    const json::OrderedJson current = description();
    const auto add = [&](const std::string &name, const json::OrderedJson &description) {
        json::OrderedJson object = {
            {"id", name},
            {"object", "model"},
            {"created", created_},
            {"owned_by", "dynamo-llm"},
            {"engine", engine_->name()},
        };
        if (!path_.empty()) {
            object["path"] = path_;
        }
        if (const char *const kind = engine_->kind_name(); kind != nullptr) {
            object["kind"] = kind;
        }
        object.update(description);
        list.push_back(std::move(object));
    };
    const auto models = listed_models(current);
    if (models.empty() && !is_dynamic_) {
        add(name_, current);
    }
    for (const json::OrderedJson &model : models) {
        add(model["id"].get<std::string>(), model);
    }
}

}  // namespace dynamo
