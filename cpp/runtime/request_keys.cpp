// SPDX-License-Identifier: Apache-2.0
#include "runtime/request_keys.hpp"

#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.hpp"

namespace dynamo::request_keys {
namespace {

using json::OrderedJson;

struct Declared {
    std::mutex mutex;
    std::set<std::string, std::less<>> keys;
};

// Never freed: requests may be created while the process exits.
Declared &declared() {
    static Declared *const instance = new Declared;
    return *instance;
}

void add_keys(std::vector<std::string> &keys, const OrderedJson &description) {
    const auto found = description.find("request_keys");
    if (found == description.end() || found->is_null()) {
        return;
    }
    const auto reject = [] {
        throw Failure(DYNAMO_ERROR_ENGINE_FAILED,
                      "\"request_keys\" of the engine's description must be an array of strings");
    };
    if (!found->is_array()) {
        reject();
    }
    for (const OrderedJson &key : *found) {
        if (!key.is_string()) {
            reject();
        }
        keys.push_back(key.get<std::string>());
    }
}

}  // namespace

std::vector<std::string> declared_by(const OrderedJson &description) {
    std::vector<std::string> keys;
    add_keys(keys, description);
    if (const auto models = description.find("models");
        models != description.end() && models->is_array()) {
        for (const OrderedJson &model : *models) {
            if (model.is_object()) {
                add_keys(keys, model);
            }
        }
    }
    return keys;
}

void declare(const std::vector<std::string> &keys) {
    const std::lock_guard lock(declared().mutex);
    declared().keys.insert(keys.begin(), keys.end());
}

bool is_declared(std::string_view key) {
    const std::lock_guard lock(declared().mutex);
    return declared().keys.contains(key);
}

void add_declared(std::vector<std::string> &names) {
    const std::lock_guard lock(declared().mutex);
    names.insert(names.end(), declared().keys.begin(), declared().keys.end());
}

}  // namespace dynamo::request_keys
