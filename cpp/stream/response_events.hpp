// SPDX-License-Identifier: Apache-2.0
// The answer to a body of OpenAI's Responses API, as the events of its stream.
#pragma once

#include <memory>

#include "base/json.hpp"

namespace dynamo {

class Response;
struct ResponseHead;

// Makes the events of one answer, whose responses it gets in order. The last event of the last response,
// "response.completed" or "response.incomplete", has the whole answer.
class ResponseEvents {
  public:
    // The head must outlive this object.
    explicit ResponseEvents(const ResponseHead &head);
    ResponseEvents(const ResponseEvents &) = delete;
    ResponseEvents &operator=(const ResponseEvents &) = delete;
    ~ResponseEvents();

    // Returns an array of events. If it throws, the response has not been added, and may be added again.
    json::OrderedJson of(const Response &response);

  private:
    class State;
    std::unique_ptr<State> state_;
};

}  // namespace dynamo
