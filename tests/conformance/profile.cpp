// SPDX-License-Identifier: Apache-2.0
#include "profile.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "js.hpp"

namespace {

std::string content(const std::string &file) {
    std::ifstream in(file);
    if (!in) {
        throw std::runtime_error("the profile " + file + " cannot be read");
    }
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Profile Profile::read(const std::string &file_or_config, const std::string &defaults) {
    const bool is_config = file_or_config[0] == '{';
    const std::string base = content(defaults);
    const std::string own =
        is_config ? js::with("{}", "config", file_or_config) : content(file_or_config);
    const std::string name = is_config ? "of the configuration" : file_or_config;
    std::vector<std::string> known = js::keys(base);
    known.push_back("config");
    for (const std::string &key : js::keys(own)) {
        if (std::find(known.begin(), known.end(), key) == known.end()) {
            throw std::runtime_error("the profile " + name + " has a key \"" + key +
                                     "\" that none knows; see profile.hpp");
        }
    }
    Profile profile(js::merged(base, own));
    for (const char *key : {"config", "short", "long"}) {
        const std::string value = js::at(profile.json_, std::string("/") + key);
        if (value.empty() || js::is_string(value)) {
            throw std::runtime_error("the profile " + name + " needs an object \"" + key + "\"");
        }
    }
    return profile;
}

std::string Profile::get(const std::string &key) const {
    const std::string value = js::at(json_, "/" + key);
    if (js::is_string(value)) {
        throw Skipped(js::string_at(json_, "/" + key));
    }
    if (value.empty()) {
        throw std::runtime_error("the profile has no \"" + key + "\"");
    }
    return value;
}

std::string Profile::text(const std::string &key, const std::string &member) const {
    return js::string_at(get(key), "/" + member);
}

std::string Profile::very_long() const {
    const std::string own = get("very_long");
    return own == "null" ? get("long") : own;
}

std::string Profile::config(const std::string &changes) const {
    return js::merged(get("config"), changes);
}

std::string Profile::engine() const {
    return js::string_at(json_, "/config/engine");
}
