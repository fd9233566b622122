// SPDX-License-Identifier: Apache-2.0
// What a C caller holds in place of a pointer.
//
// A handle is a number in the clothes of a pointer: slot, generation and kind, with the lowest bit
// set, so that it can never be mistaken for memory. Each use looks the slot up and compares the
// generation; a stale, foreign or wrong-type handle is an error and never a read of freed memory.
// Slots are reused and never given back.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace dynamo {

enum class HandleKind : std::uint8_t {
    runtime = 1,
    request = 2,
    response = 3,
    stream = 4,
    tokenizer = 5,
    detokenizer = 6,
    worker = 7,
    kv_publisher = 8,
    router = 9,
    queue = 10,
    // 15 is the last that a handle has room for
};

// Names the type that a class is handed out as.
template <class T>
struct HandleTraits;

namespace handles {

// A place in the table.
struct Slot {
    // High, so that neither a small number nor the address of a program's memory is ever a handle.
    static constexpr std::uint64_t first_generation = std::uint64_t{1} << 31;
    static constexpr std::uint64_t closed_bit = std::uint64_t{1} << 31;
    static constexpr std::uint64_t holders_mask = closed_bit - 1;
    static std::uint32_t generation(std::uint64_t state) {
        return static_cast<std::uint32_t>(state >> 32);
    }

    // generation (32 bits) | closed (1) | holders (31). The open handle itself is one holder.
    std::atomic<std::uint64_t> state{first_generation << 32 | closed_bit};
    std::atomic<std::uint32_t> next_free{0};
    std::atomic<HandleKind> kind{};  // changes only while the slot is closed
    std::shared_ptr<void> object;
    std::uint32_t index = 0;
};

// The last holder of a closed slot has gone; state: the slot's before that.
void free_slot(Slot *slot, std::uint64_t state) noexcept;

// Keeps the object behind a handle alive during a call, also if the handle is closed meanwhile.
class Hold {
  public:
    Hold(Slot *slot, void *object) noexcept : slot_(slot), object_(object) {}
    Hold(const Hold &) = delete;
    Hold &operator=(const Hold &) = delete;
    ~Hold() {
        const std::uint64_t before = slot_->state.fetch_sub(1, std::memory_order_acq_rel);
        if ((before & Slot::holders_mask) == 1) {
            free_slot(slot_, before);
        }
    }
    void *object() const noexcept { return object_; }

  private:
    Slot *slot_;
    void *object_;
};

// A place for a handle: what can fail about open() has been done.
class Reserved {
  public:
    Reserved();  // throws std::bad_alloc, or Failure with OUT_OF_MEMORY
    ~Reserved();
    Reserved(const Reserved &) = delete;
    Reserved &operator=(const Reserved &) = delete;
    std::uintptr_t open(HandleKind kind, std::shared_ptr<void> object) noexcept;  // once

  private:
    Slot *slot_;
};
Hold hold(std::uintptr_t handle, HandleKind kind);  // throws Failure with INVALID_HANDLE

// Makes a handle stale; the object goes when the last Hold does. False if it was stale already, so
// of several threads one wins.
bool close(std::uintptr_t handle, HandleKind kind) noexcept;

inline bool looks_like_handle(const void *pointer) noexcept {
    return (reinterpret_cast<std::uintptr_t>(pointer) & 1) != 0;
}

}  // namespace handles

// A typed Hold: `Held<Request> request(c_handle);`
template <class T>
class Held {
  public:
    using CType = typename HandleTraits<T>::CType;
    explicit Held(const CType *handle)
        : hold_(handles::hold(reinterpret_cast<std::uintptr_t>(handle), HandleTraits<T>::kind)) {}
    T *operator->() const noexcept { return static_cast<T *>(hold_.object()); }
    T &operator*() const noexcept { return *static_cast<T *>(hold_.object()); }

  private:
    handles::Hold hold_;
};

template <class T>
typename HandleTraits<T>::CType *open_handle(handles::Reserved &place,
                                             std::shared_ptr<T> object) noexcept {
    return reinterpret_cast<typename HandleTraits<T>::CType *>(
        place.open(HandleTraits<T>::kind, std::move(object)));
}

template <class T>
typename HandleTraits<T>::CType *open_handle(std::shared_ptr<T> object) {
    handles::Reserved place;
    return open_handle<T>(place, std::move(object));
}

template <class T>
bool close_handle(const typename HandleTraits<T>::CType *handle) noexcept {
    return handles::close(reinterpret_cast<std::uintptr_t>(handle), HandleTraits<T>::kind);
}

}  // namespace dynamo
