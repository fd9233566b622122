// SPDX-License-Identifier: Apache-2.0
// JSON from outside the library. The value type is only declared here, because it takes long to compile: include
// <nlohmann/json.hpp> to use its members.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_memory.hpp"

namespace dynamo::json {

// Makes the types below distinct types of this library, for which std::allocator may be specialized.
template <class T, class Enable = void>
struct Serializer : nlohmann::adl_serializer<T, Enable> {};

template <template <class, class, class...> class Object>
using BasicJson = nlohmann::basic_json<Object, std::vector, std::string, bool, std::int64_t,
                                       std::uint64_t, double, std::allocator, Serializer>;
using Json = BasicJson<std::map>;
using OrderedJson = BasicJson<nlohmann::ordered_map>;

}  // namespace dynamo::json

// Two specializations: Clang 14 cannot instantiate basic_json with a partial one.
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

// Deepest nesting that is read: far beyond any real body, and shallow enough for every stack.
inline constexpr int max_depth = 128;
// Longest text that is read, in bytes: images in a body fit, and untrusted input cannot use up the memory.
inline constexpr std::size_t max_size = std::size_t{64} << 20;
// Most memory that the values of a text may take, in bytes, as estimated: 64 MiB of "{}," would take 2 GiB.
inline constexpr std::size_t max_memory = std::size_t{256} << 20;

// Parses any value according to RFC 8259: UTF-8, without a byte order mark, with nothing after the value. Of duplicate
// keys the last one counts, as in Python and Rust. Throws Failure with INVALID_JSON and the position. `what` names the
// text in messages: "configuration". All JSON is read here, because nlohmann's own parse() reads numbers by the host's
// locale and stops at a NUL byte.
Json parse(std::string_view text, const char *what);
OrderedJson parse_ordered(std::string_view text, const char *what);

// Parses an object. Throws Failure with `wrong_type` if the text is JSON but not an object.
Json parse_object(std::string_view text, const char *what, std::int32_t wrong_type);

// Returns a text without the byte order mark that some editors add; JSON parsers disagree about it.
std::string_view without_bom(std::string_view text);

// Returns the value of a key; nullptr if it is absent or null.
const Json *given(const Json &object, std::string_view key);

// Returns the string of a key, which the object owns; "" if it is absent or not a string.
std::string_view string_at(const Json &object, std::string_view key);

// Whether a value is this string. (nlohmann's == constructs a value first, which allocates and may throw.)
bool is_text(const Json &value, std::string_view text) noexcept;

// Returns the type for messages: "a string", "an array".
const char *type_name(const Json &value);

// Writes a value as JSON. Invalid UTF-8 is replaced.
std::string dump(const Json &value);
std::string dump(const OrderedJson &value);

}  // namespace dynamo::json
