// SPDX-License-Identifier: Apache-2.0
// Reads and edits JSON texts: profiles, bodies, and errors. Pointers are JSON pointers (RFC 6901).
#ifndef CONFORMANCE_JSON_HPP
#define CONFORMANCE_JSON_HPP

#include <string>
#include <vector>

namespace js {

// All functions throw std::runtime_error on invalid JSON.
std::string at(const std::string &json, const std::string &pointer);  // "" if it does not exist
std::string string_at(const std::string &json,
                      const std::string &pointer);  // "" if it is not a string
long long number_at(const std::string &json,
                    const std::string &pointer);  // throws if it is not a number
bool is_string(const std::string &json);
std::vector<std::string> elements(const std::string &json);  // members of an array
std::vector<std::string> keys(const std::string &json);      // keys of an object
std::string with(const std::string &json, const std::string &key, const std::string &value);
std::string merged(const std::string &base, const std::string &over);  // `over` takes precedence
std::string array_of(const std::vector<std::string> &texts);
// Replaces each "{i}" inside a string by the number.
std::string numbered(const std::string &json, int number);

}  // namespace js

#endif
