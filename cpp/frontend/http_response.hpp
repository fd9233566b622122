// SPDX-License-Identifier: Apache-2.0
// One HTTP/1.1 response, read as its bytes arrive.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace dynamo::frontend {

// The bytes are not what Dynamo's frontend sends; what() says what is wrong.
struct ProtocolError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Strict, and for one known server: a final response with "Transfer-Encoding: chunked" or "Content-Length", as RFC 9112
// defines them. Anything else is a ProtocolError, after which the connection must be closed.
class HttpResponse {
  public:
    // Most bytes of the status line with all header fields, and of a chunk's size line.
    static constexpr std::size_t max_head = 65536;
    static constexpr std::size_t max_line = 1024;

    // Reads more bytes, and appends what belongs to the body to `body`. Throws ProtocolError; also for bytes that follow
    // the response, because requests are not pipelined.
    void feed(std::string_view bytes, std::string &body);

    // 0 until the head is complete.
    int status() const noexcept { return status_; }
    bool is_complete() const noexcept { return part_ == Part::end; }
    // Whether the server keeps the connection open for another request.
    bool keeps_alive() const noexcept { return keeps_alive_; }
    // Prepares for the response to the next request of the connection.
    void reset();

  private:
    enum class Part { head, body, chunk_size, chunk, chunk_end, trailer, end };

    void read_head(std::string_view head);
    void read_field(std::string_view name, std::string_view value);
    void read_chunk_size(std::string_view line);
    // Takes the bytes up to "\n" from `bytes`, over several calls. Returns whether the line is complete in line_.
    bool take_line(std::string_view &bytes);

    Part part_ = Part::head;
    int status_ = 0;
    bool keeps_alive_ = true;
    bool is_chunked_ = false;
    bool has_length_ = false;
    std::size_t left_ = 0;  // bytes of the body or the chunk that are still to come
    std::string line_;      // an incomplete head or line
};

}  // namespace dynamo::frontend
