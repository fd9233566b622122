// SPDX-License-Identifier: Apache-2.0
#include "core/model.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

namespace dynamo {

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
    } catch (...) {
        engine_->stop();
        throw;
    }
}

bool Model::is_called(std::string_view name) const {
    return name == name_ || std::find(adapters_.begin(), adapters_.end(), name) != adapters_.end();
}

void Model::add_names(std::vector<std::string> &names) const {
    names.push_back(name_);
    names.insert(names.end(), adapters_.begin(), adapters_.end());
}

json::OrderedJson Model::json() const {
    json::OrderedJson object = {
        {"id", name_},
        {"object", "model"},
        {"created", created_},
        {"owned_by", "dynamo-llm"},
        {"engine", engine_->name()},
    };
    if (!path_.empty()) {
        object["path"] = path_;
    }
    object.update(json::OrderedJson::parse(description_));
    return object;
}

}  // namespace dynamo
