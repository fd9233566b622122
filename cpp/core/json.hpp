// SPDX-License-Identifier: Apache-2.0
// JSON that came from outside. The type itself is only declared here, for it takes long to compile:
// who uses its members includes <nlohmann/json.hpp>.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/json_memory.hpp"

namespace dynamo::json {

// Makes the types below this library's own, for which std::allocator may be specialised.
template <class T, class Enable = void>
struct Serializer : nlohmann::adl_serializer<T, Enable> {};

template <template <class, class, class...> class Object>
using BasicJson = nlohmann::basic_json<Object, std::vector, std::string, bool, std::int64_t,
                                       std::uint64_t, double, std::allocator, Serializer>;
using Json = BasicJson<std::map>;
using OrderedJson = BasicJson<nlohmann::ordered_map>;

}  // namespace dynamo::json

template <>
class std::allocator<dynamo::json::Json> : public dynamo::json::Allocator<dynamo::json::Json> {
  public:
    allocator() = default;
    template <class Other>
    allocator(const std::allocator<Other> &) noexcept {}
    bool operator==(const allocator &) const = default;
};

template <>
class std::allocator<dynamo::json::OrderedJson>
    : public dynamo::json::Allocator<dynamo::json::OrderedJson> {
  public:
    allocator() = default;
    template <class Other>
    allocator(const std::allocator<Other> &) noexcept {}
    bool operator==(const allocator &) const = default;
};

namespace dynamo::json {

// Deepest nesting that is read; far beyond any real body, and shallow enough for every stack.
inline constexpr int max_depth = 128;
// Longest text that is read, in bytes: pictures in a body fit, and what a stranger sends cannot take all memory.
inline constexpr std::size_t max_size = std::size_t{64} << 20;

// Parses an object. Throws Failure with INVALID_JSON and the position, or with `wrong_type` if it
// is JSON but no object. `what` names the text in messages: "configuration".
Json parse_object(std::string_view text, const char *what, std::int32_t wrong_type);

// The same for any value.
Json parse(std::string_view text, const char *what);

// A text without the byte order mark that some editors put in front; readers of JSON do not agree on it.
std::string_view without_bom(std::string_view text);

// Whether it is this string. (nlohmann's == makes a value of the text first, and cannot fail.)
bool is_text(const Json &value, std::string_view text) noexcept;

// "a string", "an array": for messages.
const char *type_name(const Json &value);

// Text of a value for a message or a caller; never throws for bad UTF-8.
std::string dump(const Json &value);
std::string dump(const OrderedJson &value);

}  // namespace dynamo::json
