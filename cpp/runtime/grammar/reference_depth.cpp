// SPDX-License-Identifier: Apache-2.0
#include "runtime/grammar/reference_depth.hpp"

#include <algorithm>

#include "runtime/grammar/cost.hpp"

namespace dynamo::grammar {
namespace {

// Tarjan's algorithm: it finds the circles of references.
class Depths {
  public:
    explicit Depths(const std::vector<Target> &targets)
        : targets_(targets), nodes_(targets.size()) {}

    std::uint64_t of_all() {
        for (std::size_t i = 0; i < nodes_.size() && !is_too_deep_; ++i) {
            if (nodes_[i].number == 0) {
                visit(i, 1);
            }
        }
        std::uint64_t result = 0;
        for (const Node &node : nodes_) {
            result = std::max(result, node.depth);
        }
        return is_too_deep_ ? GrammarCost::max_cost : result;
    }

  private:
    struct Node {
        std::size_t number = 0;  // in the order of visits; 0: not visited
        std::size_t low = 0;
        bool is_on_stack = false;
        std::uint64_t depth = 0;
    };

    void visit(std::size_t at, std::uint64_t level) {
        if (level > max_reference_depth) {
            is_too_deep_ = true;
            return;
        }
        Node &node = nodes_[at];
        node.number = node.low = ++visits_;
        node.is_on_stack = true;
        stack_.push_back(at);
        for (const Target::Reference &reference : targets_[at].references) {
            Node &next = nodes_[reference.target];
            if (next.number == 0) {
                visit(reference.target, level + 1);
                if (is_too_deep_) {
                    return;
                }
                node.low = std::min(node.low, next.low);
            } else if (next.is_on_stack) {
                node.low = std::min(node.low, next.number);
            }
        }
        if (node.low == node.number) {
            close(at);
        }
    }

    // Called when a circle is complete, as is everything that it refers to.
    void close(std::size_t first) {
        std::vector<std::size_t> circle;
        std::uint64_t depth = 0;
        std::uint64_t below = 0;
        do {
            circle.push_back(stack_.back());
            stack_.pop_back();
            depth = GrammarCost::sum(depth, targets_[circle.back()].depth);
            for (const Target::Reference &reference : targets_[circle.back()].references) {
                below = std::max(below, nodes_[reference.target].depth);
            }
        } while (circle.back() != first);
        for (const std::size_t at : circle) {
            nodes_[at].is_on_stack = false;
            nodes_[at].depth = GrammarCost::sum(depth, below);
        }
    }

    const std::vector<Target> &targets_;
    std::vector<Node> nodes_;
    std::vector<std::size_t> stack_;
    std::size_t visits_ = 0;
    bool is_too_deep_ = false;
};

}  // namespace

std::uint64_t depth_of(const std::vector<Target> &targets) {
    return Depths(targets).of_all();
}

}  // namespace dynamo::grammar
