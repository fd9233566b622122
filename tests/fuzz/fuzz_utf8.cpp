// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes, split anywhere, through the reassembly of UTF-8, compared with the byte-wise decoder of the WHATWG
// Encoding standard (section 8.1.1).
//
// The input is a list of pieces: one byte for the length, and that many bytes.
#include <algorithm>
#include <vector>

#include "base/utf8.hpp"
#include "fuzz.hpp"

namespace {

std::string reference(const std::string &bytes) {
    const std::string replacement = "\xEF\xBF\xBD";
    std::string out, sequence;
    int needed = 0;
    unsigned lower = 0x80, upper = 0xBF;
    for (std::size_t i = 0; i < bytes.size();) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        if (needed == 0) {
            ++i;
            sequence = bytes[i - 1];
            if (byte <= 0x7F) {
                out += sequence;
            } else if (byte >= 0xC2 && byte <= 0xF4) {
                needed = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
                lower = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
                upper = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
            } else {
                out += replacement;
            }
        } else if (byte < lower || byte > upper) {
            needed = 0;  // decode this byte again
            out += replacement;
        } else {
            ++i;
            sequence += bytes[i - 1];
            lower = 0x80;
            upper = 0xBF;
            if (--needed == 0) {
                out += sequence;
            }
        }
        if (needed == 0) {
            lower = 0x80;
            upper = 0xBF;
        }
    }
    return needed == 0 ? out : out + replacement;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    dynamo::Utf8Joiner joiner;
    std::string bytes;
    dynamo::Text joined;
    for (std::size_t at = 0; at < size;) {
        const std::size_t length = std::min<std::size_t>(data[at], size - at - 1);
        const std::string piece(reinterpret_cast<const char *>(data) + at + 1, length);
        bytes += piece;
        joiner.append(joined, piece);
        HOLDS(fuzz::is_utf8(std::string(joined.view())));  // whole code points after each piece
        at += 1 + length;
    }
    joiner.flush(joined);
    HOLDS(joined.view() == reference(bytes));
    const std::size_t invalid = dynamo::invalid_utf8_at(bytes);
    HOLDS((invalid == bytes.npos) == fuzz::is_utf8(bytes));
    HOLDS(invalid == bytes.npos || fuzz::is_utf8(bytes.substr(0, invalid)));
    return 0;
}
