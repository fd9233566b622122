// SPDX-License-Identifier: Apache-2.0
// Memory for the values of arrays and objects. To avoid recursion, nlohmann's destructor moves nested values into an
// array. If there were no memory for that array, the program would be terminated; so there is a reserve for it.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

namespace dynamo::json {

namespace reserve {

// Size of the reserve in bytes: enough for 16,384 values of 16 bytes.
inline constexpr std::size_t size = 256 * 1024;

// Returns nullptr if not enough is left. Thread-safe.
void *allocate(std::size_t bytes) noexcept;
// Returns false if the block is not from the reserve. Thread-safe.
bool deallocate(void *block) noexcept;

}  // namespace reserve

template <class T>
class Allocator {
  public:
    using value_type = T;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using propagate_on_container_move_assignment = std::true_type;
    using is_always_equal = std::true_type;

    [[nodiscard]] T *allocate(std::size_t count) {
        static_assert(alignof(T) <= alignof(std::max_align_t));
        if (count > static_cast<std::size_t>(-1) / sizeof(T)) {
            throw std::bad_array_new_length();
        }
        void *block = ::operator new(count * sizeof(T), std::nothrow);
        if (block == nullptr) {
            block = reserve::allocate(count * sizeof(T));
        }
        if (block == nullptr) {
            throw std::bad_alloc();
        }
        return static_cast<T *>(block);
    }

    bool operator==(const Allocator &) const = default;

    void deallocate(T *block, std::size_t) noexcept {
        if (!reserve::deallocate(block)) {
            ::operator delete(block);
        }
    }
};

}  // namespace dynamo::json
