// SPDX-License-Identifier: Apache-2.0
// The responses that wait in a stream: a singly linked list through Response::next, which allocates nothing.
#pragma once

#include <memory>
#include <utility>

#include "stream/response.hpp"

namespace dynamo {

class ResponseList {
  public:
    ResponseList() = default;
    ResponseList(const ResponseList &) = delete;
    ResponseList &operator=(const ResponseList &) = delete;
    ~ResponseList() { clear(); }

    bool is_empty() const noexcept { return first_ == nullptr; }
    Response *first() const noexcept { return first_.get(); }
    Response *last() const noexcept { return last_; }

    void append(std::shared_ptr<Response> response) noexcept {
        Response *const added = response.get();
        (last_ == nullptr ? first_ : last_->next) = std::move(response);
        last_ = added;
    }

    // Requires a non-empty list.
    std::shared_ptr<Response> pop() noexcept {
        std::shared_ptr<Response> response = std::move(first_);
        first_ = std::move(response->next);
        if (first_ == nullptr) {
            last_ = nullptr;
        }
        return response;
    }

    // One by one: destroying the head alone would recurse once per response, and overflow the stack.
    void clear() noexcept {
        while (first_ != nullptr) {
            pop();
        }
    }

  private:
    std::shared_ptr<Response> first_;
    Response *last_ = nullptr;
};

}  // namespace dynamo
