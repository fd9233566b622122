// SPDX-License-Identifier: Apache-2.0
// JSON that came from outside. The type itself is only declared here, for it takes long to compile:
// who uses its members includes <nlohmann/json.hpp>.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace dynamo::json {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// Deepest nesting that is read; far beyond any real body, and shallow enough for every stack.
inline constexpr int max_depth = 128;

// Parses an object. Throws Failure with INVALID_JSON and the position, or with `wrong_type` if it
// is JSON but no object. `what` names the text in messages: "configuration".
Json parse_object(std::string_view text, const char *what, std::int32_t wrong_type);

// The same for any value.
Json parse(std::string_view text, const char *what);

// A text without the byte order mark that some editors put in front; readers of JSON do not agree on it.
std::string_view without_bom(std::string_view text);

// "a string", "an array": for messages.
const char *type_name(const Json &value);

// Text of a value for a message or a caller; never throws for bad UTF-8.
std::string dump(const Json &value);
std::string dump(const OrderedJson &value);

}  // namespace dynamo::json
