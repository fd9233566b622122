// SPDX-License-Identifier: Apache-2.0
#include "frontend/event_stream.hpp"

#include <algorithm>

#include "frontend/http_response.hpp"

namespace dynamo::frontend {
namespace {

// Capacity in bytes that a buffer may keep while it is empty: thousands of streams have one.
constexpr std::size_t max_spare = 4096;

// Returns the value of a field if a line has this name.
bool is_field(std::string_view line, std::string_view name, std::string_view &value) {
    if (line.substr(0, name.size()) != name ||
        (line.size() > name.size() && line[name.size()] != ':')) {
        return false;
    }
    value = line.substr(std::min(line.size(), name.size() + 1));
    if (!value.empty() && value.front() == ' ') {
        value.remove_prefix(1);
    }
    return true;
}

}  // namespace

bool EventStream::next(Event &event) {
    for (;;) {
        // An event ends with an empty line. Both line ends are allowed, "\r" alone is not.
        const std::string_view all(buffer_);
        std::size_t at = std::max(begin_, scanned_);
        std::size_t end = std::string_view::npos;
        while ((at = all.find('\n', at)) != std::string_view::npos) {
            const std::size_t next_line = at + 1;
            const bool has_return = next_line < all.size() && all[next_line] == '\r';
            const std::size_t next_end = next_line + (has_return ? 1 : 0);
            if (next_end >= all.size()) {
                break;  // what follows tells whether the next line is empty
            }
            if (all[next_end] == '\n') {
                end = next_end + 1;
                break;
            }
            at = next_line;
        }
        if (end == std::string_view::npos) {
            scanned_ = at == std::string_view::npos ? all.size() : at;
            if (all.size() - begin_ > max_event) {
                throw ProtocolError("an event that is too long");
            }
            return false;
        }
        std::string_view lines = all.substr(begin_, end - begin_);
        begin_ = scanned_ = end;
        event = {};
        std::size_t data_lines = 0;
        while (!lines.empty()) {
            const std::size_t line_end = lines.find('\n');
            std::string_view line = lines.substr(0, line_end);
            lines.remove_prefix(line_end + 1);
            if (!line.empty() && line.back() == '\r') {
                line.remove_suffix(1);
            }
            std::string_view value;
            if (is_field(line, "event", value)) {
                event.name = value;
            } else if (is_field(line, "data", value)) {
                if (data_lines == 0) {
                    event.data = value;
                } else {
                    if (data_lines == 1) {
                        joined_ = event.data;
                    }
                    joined_.append("\n").append(value);
                    event.data = joined_;
                }
                ++data_lines;
            }
        }
        if (data_lines > 0) {
            return true;
        }
    }
}

void EventStream::compact() {
    buffer_.erase(0, begin_);
    scanned_ -= std::min(scanned_, begin_);
    begin_ = 0;
    if (buffer_.empty() && buffer_.capacity() > max_spare) {
        std::string().swap(buffer_);
    }
}

}  // namespace dynamo::frontend
