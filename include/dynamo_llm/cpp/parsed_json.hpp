// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "owner.hpp"

DYNAMO_LLM_BEGIN

/** A JSON text that was parsed: the arguments of a tool call, or Response::json(). Values are named by their JSON
 * pointers (RFC 6901), such as "/choices/0/index". Errors: INVALID_ARGUMENT, for a text that is not a JSON pointer. */
class ParsedJson : public Owner<dynamo_json_t, dynamo_json_destroy> {
  public:
    using Owner::Owner;

    /** Parses a text. Errors: INVALID_JSON, INVALID_ARGUMENT. */
    [[nodiscard]] static Returned<ParsedJson> create(std::string_view text) {
        const std::string copy(text);
        return detail::checked<ParsedJson>(detail::check_text(copy, "text"), [&] {
            return detail::owned<ParsedJson>(dynamo_json_create(copy.c_str()));
        });
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    /** Same as create(). */
    explicit ParsedJson(std::string_view text) : ParsedJson(create(text)) {}
#endif

    /** Returns the type of a value: a dynamo_json_type_t. */
    Returned<std::int32_t> type(const std::string &pointer) const {
        return found(dynamo_json_type(get(), pointer.c_str()));
    }
    /** Returns a string, which belongs to this object; empty if the value does not exist or is not a string. */
    Returned<std::optional<std::string_view>> string(const std::string &pointer) const {
        std::size_t length = 0;
        const char *const text = dynamo_json_string(get(), pointer.c_str(), &length);
        return found(text == nullptr ? std::nullopt
                                     : std::optional(std::string_view(text, length)));
    }
    /** Returns a boolean; `otherwise` if the value does not exist or is not a boolean. */
    Returned<bool> boolean(const std::string &pointer, bool otherwise = false) const {
        return found(dynamo_json_boolean(get(), pointer.c_str(), otherwise ? 1 : 0) != 0);
    }
    /** Returns a number; `otherwise` if the value does not exist or is not a number. */
    Returned<double> number(const std::string &pointer, double otherwise = 0) const {
        return found(dynamo_json_number(get(), pointer.c_str(), otherwise));
    }
    /** Returns an integer of 64 bits; `otherwise` also if the value has a fraction or does not fit. */
    Returned<std::int64_t> integer(const std::string &pointer, std::int64_t otherwise = 0) const {
        return found(dynamo_json_integer(get(), pointer.c_str(), otherwise));
    }
    /** Returns the number of elements of an array, or of members of an object; 0 for everything else. */
    Returned<std::size_t> count(const std::string &pointer) const {
        return found(dynamo_json_count(get(), pointer.c_str()));
    }
    /** Returns the name of a member of an object; members are sorted by name. It belongs to this object. Errors also:
     * INVALID_ARGUMENT, if the value is not an object, or has fewer members. */
    Returned<std::string_view> name(const std::string &pointer, std::size_t index) const {
        return found(detail::view(dynamo_json_name(get(), pointer.c_str(), index)));
    }

  private:
    // Returns the result of the latest C call, or its error.
    template <class Value>
    static Returned<Value> found(Value value) {
        if (dynamo_last_status() < 0) {
            return detail::failed<Value>(Error::last());
        }
        return value;
    }
};

DYNAMO_LLM_END
