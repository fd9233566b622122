// SPDX-License-Identifier: Apache-2.0
// A chat: builds the body of a request, and keeps its messages from turn to turn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/handle.hpp"
#include "stream/response.hpp"

namespace dynamo {

// Thread-safe. Texts are C strings. All functions throw Failure with INVALID_ARGUMENT for an argument that they cannot
// take, such as a text that is not UTF-8, and then change nothing.
class Chat {
  public:
    Chat();
    ~Chat();

    void add_message(const char *role, const char *content);
    void add_message_json(const char *message_json);
    void add_media(const char *type, const void *data, std::size_t size);
    void add_answer(const Response &response);
    void add_tool_result(const char *tool_call_id, const char *content);
    // description, parameters_json: may be nullptr.
    void add_tool(const char *name, const char *description, const char *parameters_json);
    void add_parameter(const char *tool, const char *name, const char *type,
                       const char *description, bool is_required);
    void set_string(const char *key, const char *value);
    void set_number(const char *key, double value);
    void set_integer(const char *key, std::int64_t value);
    void set_boolean(const char *key, bool value);
    void set_json(const char *key, const char *value_json);

    // Returns the body. `stream` replaces the key of that name.
    std::string json(std::optional<bool> stream = std::nullopt) const;

  private:
    struct State;
    // The stream whose responses make up the last message, and which of its choices.
    struct OpenAnswer {
        std::string id;
        std::uint32_t index = 0;
    };

    void set(const char *key, std::string value);  // as JSON

    mutable std::mutex mutex_;
    std::unique_ptr<State> state_;
    std::optional<OpenAnswer> open_answer_;
};

template <>
struct HandleTraits<Chat> {
    using CType = dynamo_chat_t;
    static constexpr HandleKind kind = HandleKind::chat;
};

}  // namespace dynamo
