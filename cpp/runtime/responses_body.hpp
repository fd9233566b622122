// SPDX-License-Identifier: Apache-2.0
// Bodies of OpenAI's Responses API, which engines answer as chats.
#pragma once

#include <span>

#include "base/json.hpp"
#include "base/schema.hpp"

namespace dynamo::responses_body {

// The keys that such a body has, and a chat has not.
std::span<const Key> own_keys();

// Returns the chat that a body stands for. The keys of a chat in it are passed on; the types of all keys were checked.
// The order of keys stays, because templates write tools as they are. Throws Failure with INVALID_REQUEST, or with
// NOT_SUPPORTED for what needs a server that stores responses, or runs tools.
json::OrderedJson to_chat(const json::OrderedJson &body);

// Returns what the answer repeats of a body, with the defaults of what is absent.
json::OrderedJson settings_of(const json::OrderedJson &body);

}  // namespace dynamo::responses_body
