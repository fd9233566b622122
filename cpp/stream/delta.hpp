// SPDX-License-Identifier: Apache-2.0
// OpenAI's deltas: the parts of a message other than its text, as engines push them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace dynamo::delta {

// A complete tool call.
struct ToolCall {
    std::string id;  // "" if the engine gave none
    std::string name;
    std::string arguments;
};

// The tool calls of one choice so far. Servers number the pieces of calls in different ways: parallel calls with one
// index, calls without an index, an id in each piece. Clients join pieces by "index" and concatenate all other strings.
// So each piece gets its call's position as "index", and an id or a name occurs in one piece only.
class ToolCalls {
  public:
    // Rewrites the "tool_calls" of a delta in place. Throws Failure for an implausible number of calls or of repeated
    // names, because each piece is compared with all calls, and the arguments of its call may be parsed.
    void number(json::Json &pieces);

    // Moves all calls out, at the end of the choice.
    std::vector<ToolCall> take();

  private:
    struct Call : ToolCall {       // the id is "" until it is known
        std::int64_t index = -1;   // from the engine; -1 without one
        bool is_in_delta = false;  // the current delta has a piece of it
    };

    Call *find(const std::string &id, std::int64_t index, const std::string &name);
    bool has_whole_arguments(const Call &call);

    std::vector<Call> calls_;
    std::size_t read_ = 0;  // bytes of arguments parsed, counting each time
};

// Converts a delta of a chat to OpenAI's form in place: removes keys that are null, renames "reasoning" to
// "reasoning_content", and numbers the pieces of tool calls.
void normalize(json::Json &delta, ToolCalls &calls);

// Merges a normalized delta into the earlier ones: concatenates strings, joins lists by "index", and replaces "id",
// "type" and "role".
void merge(json::Json &into, const json::Json &more);

// Completes the message of a whole answer: its tool calls have no "index", which only deltas have, and always have
// "id", "type" and the function's "name" and "arguments", empty if the engine gave none.
void complete_calls(json::Json &message);

}  // namespace dynamo::delta
