// SPDX-License-Identifier: Apache-2.0
// A model that a runtime serves: a name and the engine that runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine_registry.hpp"
#include "core/json.hpp"
#include "core/metrics.hpp"

namespace dynamo {

class Model {
  public:
    // Starts the engine. Throws Failure with what it said.
    explicit Model(const Config &config);

    const std::string &name() const { return name_; }
    Engine &engine() const { return *engine_; }
    Metrics &metrics() { return metrics_; }
    const Metrics &metrics() const { return metrics_; }
    std::optional<std::uint64_t> context_length() const { return context_length_; }

    // Whether a request that names this model means it: by its name, or one of its adapters.
    bool is_called(std::string_view name) const;
    // Whether any name will do, because none was configured.
    bool has_any_name() const { return has_any_name_; }
    void add_names(std::vector<std::string> &names) const;

    // Adds OpenAI's model object, with what the engine said, to a list: one for each model that the
    // engine says it has.
    void add_json(json::OrderedJson &list) const;

  private:
    // What the engine says now.
    json::OrderedJson description() const;

    std::string name_;
    bool has_any_name_;
    std::string path_;
    std::string description_;  // JSON; what the engine said at the start
    bool changes_ = false;     // whether it may say something else later
    std::optional<std::uint64_t> context_length_;
    std::vector<std::string> adapters_;
    std::int64_t created_;
    std::shared_ptr<Engine> engine_;
    Metrics metrics_;
};

}  // namespace dynamo
