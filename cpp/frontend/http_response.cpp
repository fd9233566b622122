// SPDX-License-Identifier: Apache-2.0
#include "frontend/http_response.hpp"

#include <algorithm>
#include <charconv>

namespace dynamo::frontend {
namespace {

constexpr std::string_view end_of_head = "\r\n\r\n";

bool is_same(std::string_view text, std::string_view lower) {
    return text.size() == lower.size() &&
           std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
               return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
           });
}

std::string_view trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t");
    return first == std::string_view::npos
               ? std::string_view()
               : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Reads a whole text as a number without a sign.
std::size_t number(std::string_view text, int base, const char *what) {
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) {
        throw ProtocolError(std::string("an HTTP response with an invalid ") + what);
    }
    return value;
}

}  // namespace

void HttpResponse::reset() {
    *this = HttpResponse();
}

void HttpResponse::feed(std::string_view bytes, std::string &body) {
    while (!bytes.empty()) {
        switch (part_) {
            case Part::head: {
                const std::size_t before = line_.size();
                line_.append(bytes);
                const std::size_t end = line_.find(end_of_head, before < 3 ? 0 : before - 3);
                if (end == std::string::npos ? line_.size() > max_head : end > max_head) {
                    throw ProtocolError("an HTTP response whose header fields are too long");
                }
                if (end == std::string::npos) {
                    return;
                }
                bytes.remove_prefix(end + end_of_head.size() - before);
                line_.resize(end);
                read_head(line_);
                line_.clear();
                break;
            }
            case Part::body:
            case Part::chunk: {
                const std::size_t count = std::min(left_, bytes.size());
                body.append(bytes.substr(0, count));
                bytes.remove_prefix(count);
                left_ -= count;
                if (left_ == 0) {
                    part_ = part_ == Part::body ? Part::end : Part::chunk_end;
                }
                break;
            }
            case Part::chunk_size:
                if (take_line(bytes)) {
                    read_chunk_size(line_);
                    line_.clear();
                }
                break;
            case Part::chunk_end:
                if (take_line(bytes)) {
                    if (!line_.empty()) {
                        throw ProtocolError("an HTTP response with a chunk that is too long");
                    }
                    part_ = Part::chunk_size;
                }
                break;
            case Part::trailer:
                if (take_line(bytes)) {
                    part_ = line_.empty() ? Part::end : Part::trailer;
                    line_.clear();
                }
                break;
            case Part::end:
                throw ProtocolError("bytes after an HTTP response");
        }
    }
}

bool HttpResponse::take_line(std::string_view &bytes) {
    const std::size_t end = bytes.find('\n');
    line_.append(bytes.substr(0, end));
    if (line_.size() > max_line) {
        throw ProtocolError("an HTTP response with a line that is too long");
    }
    if (end == std::string_view::npos) {
        bytes = {};
        return false;
    }
    bytes.remove_prefix(end + 1);
    if (line_.empty() || line_.back() != '\r') {
        throw ProtocolError("an HTTP response with a line that does not end in CRLF");
    }
    line_.pop_back();
    return true;
}

void HttpResponse::read_head(std::string_view head) {
    std::size_t at = head.find("\r\n");
    const std::string_view first = head.substr(0, at);
    if (first.size() < 12 || first.substr(0, 9) != "HTTP/1.1 " ||
        (first.size() > 12 && first[12] != ' ')) {
        throw ProtocolError("a response that is not HTTP/1.1");
    }
    const auto status = static_cast<int>(number(first.substr(9, 3), 10, "status"));
    while (at != std::string_view::npos) {
        head.remove_prefix(at + 2);
        at = head.find("\r\n");
        const std::string_view field = head.substr(0, at);
        const std::size_t colon = field.find(':');
        if (colon == std::string_view::npos || colon == 0) {
            throw ProtocolError("an HTTP response with an invalid header field");
        }
        read_field(field.substr(0, colon), trimmed(field.substr(colon + 1)));
    }
    if (status < 200) {  // an interim response, such as 100: the final one follows
        reset();
        return;
    }
    if (is_chunked_ == has_length_) {
        throw ProtocolError("an HTTP response without a length, or with two");
    }
    status_ = status;
    part_ = is_chunked_ ? Part::chunk_size : left_ > 0 ? Part::body : Part::end;
}

void HttpResponse::read_field(std::string_view name, std::string_view value) {
    if (is_same(name, "transfer-encoding")) {
        if (is_chunked_ || !is_same(value, "chunked")) {
            throw ProtocolError("an HTTP response with a transfer encoding other than \"chunked\"");
        }
        is_chunked_ = true;
    } else if (is_same(name, "content-length")) {
        if (has_length_) {
            throw ProtocolError("an HTTP response without a length, or with two");
        }
        has_length_ = true;
        left_ = number(value, 10, "length");
    } else if (is_same(name, "content-encoding") && !is_same(value, "identity")) {
        throw ProtocolError("an HTTP response with a content encoding that was not asked for");
    } else if (is_same(name, "connection") && is_same(value, "close")) {
        keeps_alive_ = false;
    }
}

void HttpResponse::read_chunk_size(std::string_view line) {
    left_ = number(trimmed(line.substr(0, line.find(';'))), 16, "chunk size");
    part_ = left_ == 0 ? Part::trailer : Part::chunk;
}

}  // namespace dynamo::frontend
