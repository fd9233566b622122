// SPDX-License-Identifier: Apache-2.0
#include "tokens/stop_strings.hpp"

#include <algorithm>
#include <utility>

namespace dynamo::tokens {

StopAutomaton::StopAutomaton(const std::vector<std::string> &strings) : nodes_(1) {
    for (const std::string &string : strings) {
        if (string.empty()) {
            continue;
        }
        std::uint32_t node = root;
        for (const char byte : string) {
            std::uint32_t next = child(node, byte);
            if (next == 0) {
                next = static_cast<std::uint32_t>(nodes_.size());
                nodes_.push_back({.sibling = nodes_[node].child,
                                  .string = static_cast<std::uint32_t>(strings_.size()),
                                  .depth = nodes_[node].depth + 1,
                                  .byte = byte});
                nodes_[node].child = next;
            }
            node = next;
        }
        nodes_[node].match = nodes_[node].depth;
        strings_.push_back(string);
    }
    link();
}

// Sets the suffixes, and what they match, in the order of depth.
void StopAutomaton::link() {
    std::vector<std::uint32_t> order = {root};
    for (std::size_t i = 0; i < order.size(); ++i) {
        const std::uint32_t parent = order[i];
        for (std::uint32_t node = nodes_[parent].child; node != 0; node = nodes_[node].sibling) {
            order.push_back(node);
            if (parent == root) {
                begins_[static_cast<unsigned char>(nodes_[node].byte)] = true;
                continue;
            }
            Node &its = nodes_[node];
            its.suffix = next(nodes_[parent].suffix, its.byte);
            its.match = std::max(its.match, nodes_[its.suffix].match);
        }
    }
}

std::uint32_t StopAutomaton::child(std::uint32_t node, char byte) const noexcept {
    std::uint32_t found = nodes_[node].child;
    while (found != 0 && nodes_[found].byte != byte) {
        found = nodes_[found].sibling;
    }
    return found;
}

std::uint32_t StopAutomaton::next(std::uint32_t node, char byte) const noexcept {
    while (true) {
        if (const std::uint32_t found = child(node, byte); found != 0) {
            return found;
        }
        if (node == root) {
            return root;
        }
        node = nodes_[node].suffix;
    }
}

void StopStrings::feed(std::string_view text, std::string &out) {
    if (has_matched_) {
        return;
    }
    if (automaton_ == nullptr) {
        out.append(text);
        return;
    }
    const StopAutomaton &automaton = *automaton_;
    const std::string_view held = automaton.path(node_);
    // Appends the first bytes of what was held back and the text.
    const auto show = [&](std::size_t size) {
        out.append(held.substr(0, size));
        out.append(text.substr(0, size - std::min(size, held.size())));
    };
    std::uint32_t node = node_;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (node == StopAutomaton::root && !automaton.begins_with(text[at])) {
            continue;
        }
        node = automaton.next(node, text[at]);
        if (const std::size_t length = automaton.match(node); length > 0) {
            const std::size_t end = held.size() + at + 1;
            show(includes_ ? end : end - length);
            has_matched_ = true;
            node_ = StopAutomaton::root;
            return;
        }
    }
    show(held.size() + text.size() - automaton.depth(node));
    node_ = node;
}

void StopStrings::flush(std::string &out) {
    if (automaton_ != nullptr) {
        out.append(automaton_->path(std::exchange(node_, StopAutomaton::root)));
    }
}

}  // namespace dynamo::tokens
