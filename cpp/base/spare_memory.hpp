// SPDX-License-Identifier: Apache-2.0
// Reuses the memory of one freed object for the next object of the same type.
//
// The engine's thread creates responses and the reader's thread frees them. With one block kept, a reader that keeps up
// with its engine causes no allocations.
#pragma once

#include <atomic>
#include <cstddef>
#include <new>

namespace dynamo {

// Keeps at most one block. Thread-safe.
class SpareMemory {
  public:
    ~SpareMemory() { ::operator delete(block_.load(std::memory_order_acquire)); }

    // Must always be called with the same size. Throws std::bad_alloc.
    void *allocate(std::size_t size) const {
        if (block_.load(std::memory_order_relaxed) != nullptr) {
            if (void *const block = block_.exchange(nullptr, std::memory_order_acquire)) {
                return block;
            }
        }
        return ::operator new(size);
    }

    void deallocate(void *block) const noexcept {
        void *none = nullptr;
        if (!block_.compare_exchange_strong(none, block, std::memory_order_release,
                                            std::memory_order_relaxed)) {
            ::operator delete(block);
        }
    }

  private:
    mutable std::atomic<void *> block_{nullptr};
};

// An allocator for std::allocate_shared() over the `spare` memory of an owner. Each block keeps its owner alive through
// retain() and release(): a std::shared_ptr to the owner would be copied several times for each object.
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
        void *const block = owner_->spare.allocate(sizeof(T));
        owner_->retain();
        return static_cast<T *>(block);
    }
    void deallocate(T *block, std::size_t) noexcept {
        owner_->spare.deallocate(block);
        owner_->release();
    }

    const Owner *owner() const noexcept { return owner_; }
    bool operator==(const SpareAllocator &other) const noexcept { return owner_ == other.owner_; }

  private:
    const Owner *owner_;
};

}  // namespace dynamo
