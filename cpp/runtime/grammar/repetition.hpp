// SPDX-License-Identifier: Apache-2.0
// Repetitions in regular expressions and grammars, and the size of what they repeat.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace dynamo::grammar {

// The size of an expression with its repetitions written out: in total, and of its last part, which a repetition
// multiplies.
struct Parts {
    double total = 0;
    double last = 0;

    void add(double size) {
        total += size;
        last = size;
    }
    void repeat(double times) {
        const double more = last * (std::max(times, 1.0) - 1);
        total += more;
        last += more;
    }
};

// The open groups, the innermost last.
class Groups {
  public:
    void open() {
        groups_.emplace_back();
        deepest_ = std::max(deepest_, groups_.size());
    }
    void close() {
        if (groups_.size() > 1) {
            const double size = std::max(groups_.back().total, 1.0);
            groups_.pop_back();
            groups_.back().add(size);
        }
    }
    Parts &inner() { return groups_.back(); }
    double total() {
        while (groups_.size() > 1) {
            close();
        }
        return groups_.front().total;
    }
    std::size_t deepest() const { return deepest_ - 1; }

  private:
    std::vector<Parts> groups_{1};
    std::size_t deepest_ = 1;
};

// The larger bound of a repetition such as {3}, {3,} or {,3} at the beginning of a text, and the length of its text.
struct Repetition {
    double times;
    std::size_t length;
};

std::optional<Repetition> repetition_at(std::string_view text);

// Reads the number at a position, and moves the position behind it.
std::optional<double> number_at(std::string_view text, std::size_t &at);

std::size_t after_blanks(std::string_view text, std::size_t at);

}  // namespace dynamo::grammar
