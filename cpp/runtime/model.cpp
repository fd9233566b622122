// SPDX-License-Identifier: Apache-2.0
#include "runtime/model.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

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
        if (const auto adapters = description.find("adapters");
            adapters != description.end() && adapters->is_array()) {
            for (const json::OrderedJson &adapter : *adapters) {
                if (adapter.is_string()) {
                    adapters_.push_back(adapter.get<std::string>());
                }
            }
        }
        request_keys_ = request_keys::declared_by(description);
        request_keys::declare(request_keys_);
        description_ = json::dump(description);
        is_dynamic_ = description.value("changes", false);
    } catch (...) {
        engine_->stop();
        throw;
    }
}

json::OrderedJson Model::description() const {
    return is_dynamic_ ? engine_->describe() : json::parse_ordered(description_, "description");
}

void Model::check_keys(const Body &body) const {
    if (body.engine_keys.empty()) {
        return;
    }
    body.check_engine_keys(is_dynamic_ ? request_keys::declared_by(description()) : request_keys_,
                           engine_->name());
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
    names.insert(names.end(), adapters_.begin(), adapters_.end());
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
