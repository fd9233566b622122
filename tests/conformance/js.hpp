// SPDX-License-Identifier: Apache-2.0
// JSON as texts: what the suite reads and changes of profiles, bodies and errors. Pointers are those of RFC 6901.
#ifndef CONFORMANCE_JSON_HPP
#define CONFORMANCE_JSON_HPP

#include <string>
#include <vector>

namespace js {

// All throw std::runtime_error, with what is wrong, on what is no JSON.
std::string at(const std::string &json, const std::string &pointer);  // "" if there is nothing
std::string string_at(const std::string &json,
                      const std::string &pointer);  // "" if it is no string
long long number_at(const std::string &json,
                    const std::string &pointer);  // throws if it is no number
bool is_string(const std::string &json);
std::vector<std::string> elements(const std::string &json);  // of an array
std::vector<std::string> keys(const std::string &json);      // of an object
std::string with(const std::string &json, const std::string &key, const std::string &value);
std::string merged(const std::string &base, const std::string &over);  // members of `over` replace
std::string array_of(const std::vector<std::string> &texts);
// Each "{i}" inside a string becomes the number.
std::string numbered(const std::string &json, int number);

}  // namespace js

#endif
