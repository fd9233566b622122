// SPDX-License-Identifier: Apache-2.0
// Memory of objects that come one after the other: the place of one that went serves the next.
//
// A response lives until its reader frees it, in another thread than the one that makes the next. With
// one place kept, a reader who keeps up with its engine costs no allocation per response.
#pragma once

#include <atomic>
#include <cstddef>
#include <new>

namespace dynamo {

// Room for one object of one type. Any thread.
class SpareMemory {
  public:
    SpareMemory() = default;
    SpareMemory(const SpareMemory &) = delete;
    SpareMemory &operator=(const SpareMemory &) = delete;
    ~SpareMemory() { ::operator delete(place_.load(std::memory_order_acquire)); }

    // Throws std::bad_alloc. The size is always the same.
    void *take(std::size_t size) const {
        if (place_.load(std::memory_order_relaxed) != nullptr) {
            if (void *const place = place_.exchange(nullptr, std::memory_order_acquire)) {
                return place;
            }
        }
        return ::operator new(size);
    }

    void give_back(void *place) const noexcept {
        void *none = nullptr;
        if (!place_.compare_exchange_strong(none, place, std::memory_order_release,
                                            std::memory_order_relaxed)) {
            ::operator delete(place);
        }
    }

  private:
    mutable std::atomic<void *> place_{nullptr};
};

// For std::allocate_shared(): one object (and its counters) at a time, in the spare memory of an owner, which
// lives as long as its memory is used: hold() and let_go() count that. (A std::shared_ptr as a member would be
// copied, with its counter, several times for each object.)
template <class T, class Owner>
class SpareAllocator {
  public:
    using value_type = T;

    explicit SpareAllocator(const Owner *owner) noexcept : owner_(owner) {}
    template <class U>
    SpareAllocator(const SpareAllocator<U, Owner> &other) noexcept : owner_(other.owner()) {}

    template <class U>
    struct rebind {
        using other = SpareAllocator<U, Owner>;
    };

    T *allocate(std::size_t) {
        void *const place = owner_->spare.take(sizeof(T));
        owner_->hold();
        return static_cast<T *>(place);
    }
    void deallocate(T *place, std::size_t) noexcept {
        owner_->spare.give_back(place);
        owner_->let_go();
    }

    const Owner *owner() const noexcept { return owner_; }
    bool operator==(const SpareAllocator &other) const noexcept { return owner_ == other.owner_; }

  private:
    const Owner *owner_;
};

}  // namespace dynamo
