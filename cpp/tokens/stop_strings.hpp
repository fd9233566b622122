// SPDX-License-Identifier: Apache-2.0
// Ends a stream of text at a stop string, also at one that is split across pieces of text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dynamo::tokens {

// The automaton of Aho and Corasick for some strings: finds all of them in one pass. Immutable.
class StopAutomaton {
  public:
    // Empty strings are ignored.
    explicit StopAutomaton(const std::vector<std::string> &strings);

    static constexpr std::uint32_t root = 0;
    bool is_empty() const noexcept { return nodes_.size() == 1; }
    // Whether a byte leads from the root to another node.
    bool begins_with(char byte) const noexcept { return begins_[static_cast<unsigned char>(byte)]; }
    // The node after a byte.
    std::uint32_t next(std::uint32_t node, char byte) const noexcept;
    // The number of bytes read that may be the beginning of a string, and those bytes.
    std::size_t depth(std::uint32_t node) const noexcept { return nodes_[node].depth; }
    std::string_view path(std::uint32_t node) const noexcept {
        return std::string_view(strings_[nodes_[node].string]).substr(0, nodes_[node].depth);
    }
    // The length of the longest string that ends at this node; 0 if none does.
    std::size_t match(std::uint32_t node) const noexcept { return nodes_[node].match; }

  private:
    struct Node {
        std::uint32_t child = 0;    // the first one; 0 if there is none
        std::uint32_t sibling = 0;  // the next child of the same node
        std::uint32_t suffix = 0;   // the node of the longest proper suffix
        std::uint32_t string = 0;   // a string that begins with the path to this node
        std::uint32_t depth = 0;
        std::uint32_t match = 0;
        char byte = 0;  // leads here from the parent
    };

    std::uint32_t child(std::uint32_t node, char byte) const noexcept;
    void link();

    std::vector<std::string> strings_;
    std::vector<Node> nodes_;
    std::array<bool, 256> begins_{};
};

// Passes text through up to the stop string that is completed first; of those that are completed together, the longest.
// Text that may be the beginning of a stop string is held back until that is decided. The result does not depend on how
// the text is split. Copies are independent. Not thread-safe.
class StopStrings {
  public:
    // includes: whether the stop string itself is passed through.
    StopStrings(const std::vector<std::string> &strings, bool includes)
        : automaton_(strings.empty() ? nullptr : std::make_shared<const StopAutomaton>(strings)),
          includes_(includes) {
        if (automaton_ != nullptr && automaton_->is_empty()) {
            automaton_ = nullptr;
        }
    }

    // Takes more text, whole code points of UTF-8. Appends what can be shown now.
    void feed(std::string_view text, std::string &out);
    // Ends the text. Appends what was held back.
    void flush(std::string &out);

    // Whether a stop string came; from then on no text is passed through.
    bool has_matched() const noexcept { return has_matched_; }
    bool is_empty() const noexcept { return automaton_ == nullptr; }

  private:
    std::shared_ptr<const StopAutomaton> automaton_;  // nullptr without stop strings
    std::uint32_t node_ = StopAutomaton::root;
    bool includes_;
    bool has_matched_ = false;
};

}  // namespace dynamo::tokens
