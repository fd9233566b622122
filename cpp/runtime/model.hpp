// SPDX-License-Identifier: Apache-2.0
// A model that a runtime serves: a name and the engine that runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "runtime/engine.hpp"
#include "stream/counters.hpp"

namespace dynamo {

class Model {
  public:
    // Starts the engine. Throws Failure with the engine's error.
    explicit Model(const ModelConfig &config);

    const std::string &name() const { return name_; }
    Engine &engine() const { return *engine_; }
    Counters &counters() { return counters_; }
    // The counters of control calls, which nobody reads.
    Counters &call_counters() { return call_counters_; }
    const Counters &counters() const { return counters_; }
    std::optional<std::uint64_t> context_length() const { return context_length_; }

    // Returns the engine's description; the current one, if it may change.
    json::OrderedJson description() const;

    // Throws Failure with CONTEXT_LENGTH for a prompt that is certainly too long, without tokenizing it.
    void check_length(const Body &body) const;

    // Throws Failure with INVALID_REQUEST for a key that neither the library nor the engine knows.
    void check_keys(const Body &body) const;

    // Throws Failure with NOT_SUPPORTED for a body that ranks or classifies texts, unless the engine declares that it
    // takes it. What runs engines in Python answers for them, because it can compute some scores itself.
    void check_kind(BodyKind kind) const;

    // Throws Failure with NOT_SUPPORTED for a control call that the engine does not have.
    void check_call(const std::string &name) const;

    // Asks the engine for its description again, because a control call may have changed it: loaded an adapter, for
    // example. Throws Failure with ENGINE_FAILED.
    void refresh();

    // Whether this is the model's name, or the name of one of its adapters.
    bool is_called(std::string_view name) const;
    // Whether requests may give any name, because none was configured.
    bool has_any_name() const { return has_any_name_; }
    void add_names(std::vector<std::string> &names) const;

    // Appends OpenAI's model object, extended by the engine's description, to a list: one for each model that the
    // engine lists.
    void add_json(json::OrderedJson &list) const;

  private:
    std::string name_;
    bool has_any_name_;
    std::string path_;
    mutable std::mutex mutex_;  // guards description_ and adapters_
    std::string description_;   // JSON, from the start of the engine, or its last control call
    std::vector<std::string> adapters_;  // likewise
    bool is_dynamic_ = false;            // the description may change: a dynamic model list
    std::optional<std::uint64_t> context_length_;
    std::optional<std::uint64_t> longest_token_;  // in bytes
    std::vector<std::string> request_keys_;       // declared by the engine at its start
    std::int64_t created_;
    std::shared_ptr<Engine> engine_;
    Counters counters_;
    Counters call_counters_;
};

}  // namespace dynamo
