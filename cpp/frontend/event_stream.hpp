// SPDX-License-Identifier: Apache-2.0
// The server-sent events in a response's body.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace dynamo::frontend {

// Takes events from a buffer to which more bytes are appended. An event's texts lie in the buffer, so they are valid
// until the buffer changes.
class EventStream {
  public:
    // Most bytes of an event.
    static constexpr std::size_t max_event = std::size_t{64} << 20;

    struct Event {
        std::string_view name;  // of the field "event"; empty if there is none
        std::string_view data;  // lines of "data", joined by "\n"
    };

    // Where more bytes are appended.
    std::string &buffer() noexcept { return buffer_; }
    // Reads the next complete event that has data. Throws ProtocolError.
    bool next(Event &event);
    // Frees the part of the buffer whose events were read.
    void compact();

  private:
    std::string buffer_;
    std::size_t begin_ = 0;    // of the first event that was not read
    std::size_t scanned_ = 0;  // of the buffer, in which there is no end of that event
    std::string joined_;       // data of an event with several lines
};

}  // namespace dynamo::frontend
