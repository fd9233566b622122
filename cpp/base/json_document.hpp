// SPDX-License-Identifier: Apache-2.0
// A parsed JSON text that C callers read by JSON pointer (RFC 6901).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/handle.hpp"
#include "base/json.hpp"
#include "dynamo_llm.h"

namespace dynamo {

// Immutable, so thread-safe. All functions but the constructor throw Failure with INVALID_ARGUMENT if the pointer is
// not a JSON pointer.
class JsonDocument {
  public:
    explicit JsonDocument(std::string_view text);  // throws Failure with INVALID_JSON
    ~JsonDocument();

    std::int32_t type(std::string_view pointer) const;  // a dynamo_json_type_t
    // nullptr if the value does not exist or is not a string.
    const std::string *string(std::string_view pointer) const;
    // Empty if the value does not exist, or has another type.
    std::optional<bool> boolean(std::string_view pointer) const;
    std::optional<double> number(std::string_view pointer) const;
    std::optional<std::int64_t> integer(std::string_view pointer) const;
    // 0 if the value is neither an array nor an object.
    std::size_t count(std::string_view pointer) const;
    // Also throws if the value is not an object with that many members.
    const std::string &name(std::string_view pointer, std::size_t index) const;

  private:
    const json::Json *find(std::string_view pointer) const;

    std::unique_ptr<const json::Json> root_;
};

template <>
struct HandleTraits<JsonDocument> {
    using CType = dynamo_json_t;
    static constexpr HandleKind kind = HandleKind::json;
};

}  // namespace dynamo
