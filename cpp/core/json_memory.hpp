// SPDX-License-Identifier: Apache-2.0
// Memory for the values of arrays and objects. nlohmann's destructor of a value moves what is in it into an
// array first, so that deep nesting needs no stack. If there is no memory for that array it could only end
// the program; so it gets some that is set apart.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

namespace dynamo::json {

namespace reserve {

// Size of what is set apart, in bytes. Values of 16 bytes: enough for 16,384 of them at once.
inline constexpr std::size_t size = 256 * 1024;

// nullptr if there is not enough left. Any thread.
void *take(std::size_t bytes) noexcept;
// False if it is not from here.
bool give_back(void *place) noexcept;

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
        void *place = ::operator new(count * sizeof(T), std::nothrow);
        if (place == nullptr) {
            place = reserve::take(count * sizeof(T));
        }
        if (place == nullptr) {
            throw std::bad_alloc();
        }
        return static_cast<T *>(place);
    }

    bool operator==(const Allocator &) const = default;

    void deallocate(T *place, std::size_t) noexcept {
        if (!reserve::give_back(place)) {
            ::operator delete(place);
        }
    }
};

}  // namespace dynamo::json
