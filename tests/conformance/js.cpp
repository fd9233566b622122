// SPDX-License-Identifier: Apache-2.0
#include "js.hpp"

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace js {
namespace {

using Json = nlohmann::ordered_json;

Json parse(const std::string &text) {
    try {
        return Json::parse(text);
    } catch (const std::exception &error) {
        throw std::runtime_error(std::string(error.what()) + " in: " + text.substr(0, 400));
    }
}

}  // namespace

std::string at(const std::string &json, const std::string &pointer) {
    const Json whole = parse(json);
    const Json::json_pointer place(pointer);
    return whole.contains(place) ? whole.at(place).dump() : "";
}

std::string string_at(const std::string &json, const std::string &pointer) {
    const std::string value = at(json, pointer);
    return is_string(value) ? parse(value).get<std::string>() : "";
}

long long number_at(const std::string &json, const std::string &pointer) {
    const std::string value = at(json, pointer);
    if (value.empty() || !parse(value).is_number()) {
        throw std::runtime_error("no number at " + pointer + " in: " + json.substr(0, 400));
    }
    return parse(value).get<long long>();
}

bool is_string(const std::string &json) {
    return !json.empty() && json[0] == '"';
}

std::vector<std::string> elements(const std::string &json) {
    std::vector<std::string> result;
    for (const Json &element : parse(json)) {
        result.push_back(element.dump());
    }
    return result;
}

std::vector<std::string> keys(const std::string &json) {
    std::vector<std::string> result;
    const Json whole = parse(json);
    for (const auto &[key, value] : whole.items()) {
        result.push_back(key);
    }
    return result;
}

std::string with(const std::string &json, const std::string &key, const std::string &value) {
    Json whole = parse(json);
    whole[key] = parse(value);
    return whole.dump();
}

std::string merged(const std::string &base, const std::string &over) {
    Json whole = parse(base);
    whole.update(parse(over));
    return whole.dump();
}

std::string array_of(const std::vector<std::string> &texts) {
    return Json(texts).dump();
}

std::string numbered(const std::string &json, int number) {
    std::string text = json;
    const std::string digits = std::to_string(number);
    for (std::size_t at = 0; (at = text.find("{i}", at)) != text.npos; at += digits.size()) {
        text.replace(at, 3, digits);
    }
    return text;
}

}  // namespace js
