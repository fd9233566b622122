// SPDX-License-Identifier: Apache-2.0
// JSON, read in place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "frontend/http_response.hpp"

namespace dynamo::frontend {

// Goes through a text once, and reads only the values that its user asks for: there is an event for each token, and most
// of it is always the same. Throws ProtocolError for a text whose structure is wrong. Does not check what it skips for
// more than its structure.
class JsonScanner {
  public:
    explicit JsonScanner(std::string_view text) : text_(text) {}

    // Calls member(key) for each member of an object; it must read or skip the value. Keys are not unescaped.
    template <class Member>
    void object(Member member) {
        expect('{');
        if (!take('}')) {
            do {
                const std::string_view key = raw_string();
                expect(':');
                member(key);
            } while (take(','));
            expect('}');
        }
    }

    // Calls element() for each element of an array; it must read or skip the element.
    template <class Element>
    void array(Element element) {
        expect('[');
        if (!take(']')) {
            do {
                element();
            } while (take(','));
            expect(']');
        }
    }

    // Returns the first character of the next value: '{', '[', '"', or that of a number or literal. Requires a value.
    char peek();
    // Reads a string into `text`. Returns false for null, which is skipped.
    bool string(std::string &text);
    // Reads an integer from 0 to `most`; null is 0. what: for errors.
    std::uint64_t number(std::uint64_t most, const char *what);
    void skip();
    // Requires the end of the text.
    void end();

  private:
    [[noreturn]] void reject() const;
    void skip_space();
    bool take(char wanted);
    void expect(char wanted);
    // Returns what is between the quotes.
    std::string_view raw_string();
    void skip_literal();

    std::string_view text_;
    std::size_t at_ = 0;
    bool has_escapes_ = false;  // of the last string
};

}  // namespace dynamo::frontend
