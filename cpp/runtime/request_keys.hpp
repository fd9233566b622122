// SPDX-License-Identifier: Apache-2.0
// Keys of a request body that engines declare ("request_keys" of describe()).
//
// A body is checked twice. dynamo_request_create() does not know the engine yet: it rejects keys that are unknown to
// the library and to all engines of this process. dynamo_request_send() rejects the keys that its engine did not
// declare.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"

namespace dynamo::request_keys {

// Returns the keys that a description declares, including those of each of its "models". Throws Failure with
// ENGINE_FAILED if "request_keys" is not an array of strings.
std::vector<std::string> declared_by(const json::OrderedJson &description);

// Adds keys to those of the process, permanently: a request may be created before its runtime is chosen.
void declare(const std::vector<std::string> &keys);
bool is_declared(std::string_view key);
void add_declared(std::vector<std::string> &names);

}  // namespace dynamo::request_keys
