// SPDX-License-Identifier: Apache-2.0
#include "core/model.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

namespace dynamo {
namespace {

// The models that an engine lists in its description as objects.
std::vector<json::OrderedJson> several(const json::OrderedJson &description) {
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

}  // namespace

Model::Model(const Config &config)
    : name_(!config.name.empty()    ? config.name
            : !config.model.empty() ? config.model
                                    : config.engine),
      has_any_name_(config.name.empty()),
      path_(config.model),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      engine_(Engine::start(config)) {
    try {
        const json::OrderedJson description = engine_->describe();
        if (const auto length = description.find("context_length");
            length != description.end() && length->is_number_unsigned()) {
            context_length_ = length->get<std::uint64_t>();
        }
        if (const auto adapters = description.find("adapters");
            adapters != description.end() && adapters->is_array()) {
            for (const json::OrderedJson &adapter : *adapters) {
                if (adapter.is_string()) {
                    adapters_.push_back(adapter.get<std::string>());
                }
            }
        }
        description_ = json::dump(description);
        changes_ = description.value("changes", false);
    } catch (...) {
        engine_->stop();
        throw;
    }
}

json::OrderedJson Model::description() const {
    return changes_ ? engine_->describe() : json::OrderedJson::parse(description_);
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
    names.insert(names.end(), adapters_.begin(), adapters_.end());
    if (changes_) {
        for (const json::OrderedJson &model : several(description())) {
            names.push_back(model["id"].get<std::string>());
        }
    }
}

void Model::add_json(json::OrderedJson &list) const {
    const json::OrderedJson said = description();
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
    const auto models = several(said);
    if (models.empty() && !changes_) {
        add(name_, said);
    }
    for (const json::OrderedJson &model : models) {
        add(model["id"].get<std::string>(), model);
    }
}

}  // namespace dynamo
