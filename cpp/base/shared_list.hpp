// SPDX-License-Identifier: Apache-2.0
// A singly linked list through a member of its objects, which allocates nothing.
#pragma once

#include <memory>
#include <utility>

namespace dynamo {

template <class T, std::shared_ptr<T> T::*next>
class SharedList {
  public:
    SharedList() = default;
    SharedList(const SharedList &) = delete;
    SharedList &operator=(const SharedList &) = delete;
    ~SharedList() { clear(); }

    bool is_empty() const noexcept { return first_ == nullptr; }
    T *first() const noexcept { return first_.get(); }
    T *last() const noexcept { return last_; }

    void append(std::shared_ptr<T> object) noexcept {
        T *const added = object.get();
        (last_ == nullptr ? first_ : last_->*next) = std::move(object);
        last_ = added;
    }

    // Requires a non-empty list.
    std::shared_ptr<T> pop() noexcept {
        std::shared_ptr<T> object = std::move(first_);
        first_ = std::move(object.get()->*next);
        if (first_ == nullptr) {
            last_ = nullptr;
        }
        return object;
    }

    // One by one: destroying the head alone would recurse once per object, and overflow the stack.
    void clear() noexcept {
        while (first_ != nullptr) {
            pop();
        }
    }

  private:
    std::shared_ptr<T> first_;
    T *last_ = nullptr;
};

}  // namespace dynamo
