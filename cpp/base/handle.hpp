// SPDX-License-Identifier: Apache-2.0
// Handles: what a C caller holds instead of pointers.
//
// A handle is a number with the type of a pointer: slot, generation and kind. Its lowest bit is set, so that it is
// never a valid address. Each use looks up the slot and compares the generation, so a stale, foreign or wrong-type
// handle is an error and never a read of freed memory. Slots are reused; their memory is never freed.
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
    creation = 11,
    chat = 12,
    json = 13,
    // 15 is the largest value that fits into a handle
};

// Declares the C type and the kind of a class that has handles.
template <class T>
struct HandleTraits;

namespace handles {

// Returns the name for messages, such as "runtime".
const char *kind_name(HandleKind kind) noexcept;

// Returns the C function that ends the life of a handle of this kind, such as "dynamo_runtime_destroy()".
const char *release_function(HandleKind kind) noexcept;

// Returns the kind that a handle was created with, even if it is stale; HandleKind{} for any other pointer.
HandleKind claimed_kind(const void *handle) noexcept;

// An entry of the table.
struct Slot {
    // High, so that neither a small number nor a memory address is ever a valid handle.
    static constexpr std::uint64_t first_generation = std::uint64_t{1} << 31;
    static constexpr std::uint64_t closed_bit = std::uint64_t{1} << 31;
    static constexpr std::uint64_t references_mask = closed_bit - 1;
    static std::uint32_t generation(std::uint64_t state) {
        return static_cast<std::uint32_t>(state >> 32);
    }

    // generation (32 bits) | closed (1) | references (31). The open handle itself is one reference.
    std::atomic<std::uint64_t> state{first_generation << 32 | closed_bit};
    std::atomic<std::uint32_t> next_free{0};
    std::atomic<HandleKind> kind{};  // changes only while the slot is closed
    std::shared_ptr<void> object;
    std::uint32_t index = 0;
};

// Frees a closed slot after its last reference was released. state: its value before that.
void free_slot(Slot *slot, std::uint64_t state) noexcept;

// Keeps the object behind a handle alive during a call, even if the handle is closed meanwhile.
class SlotRef {
  public:
    SlotRef(Slot *slot, void *object) noexcept : slot_(slot), object_(object) {}
    SlotRef(const SlotRef &) = delete;
    SlotRef &operator=(const SlotRef &) = delete;
    ~SlotRef() {
        const std::uint64_t before = slot_->state.fetch_sub(1, std::memory_order_acq_rel);
        if ((before & Slot::references_mask) == 1) {
            free_slot(slot_, before);
        }
    }
    void *object() const noexcept { return object_; }

  private:
    Slot *slot_;
    void *object_;
};

// Reserves a slot, so that opening a handle later cannot fail.
class Reservation {
  public:
    Reservation();  // throws std::bad_alloc, or Failure with OUT_OF_MEMORY
    ~Reservation();
    Reservation(const Reservation &) = delete;
    Reservation &operator=(const Reservation &) = delete;
    std::uintptr_t open(HandleKind kind, std::shared_ptr<void> object) noexcept;  // once

  private:
    Slot *slot_;
};

// Throws Failure with INVALID_HANDLE.
SlotRef acquire(std::uintptr_t handle, HandleKind kind);

// Makes a handle stale; the object is destroyed with its last SlotRef. Returns false if the handle was stale already,
// so exactly one of several threads succeeds.
bool close(std::uintptr_t handle, HandleKind kind) noexcept;

inline bool looks_like_handle(const void *pointer) noexcept {
    return (reinterpret_cast<std::uintptr_t>(pointer) & 1) != 0;
}

}  // namespace handles

// A typed reference: `HandleRef<Request> request(c_handle);`. The constructor throws Failure with INVALID_HANDLE.
template <class T>
class HandleRef {
  public:
    using CType = typename HandleTraits<T>::CType;
    explicit HandleRef(const CType *handle)
        : ref_(handles::acquire(reinterpret_cast<std::uintptr_t>(handle), HandleTraits<T>::kind)) {}
    T *operator->() const noexcept { return static_cast<T *>(ref_.object()); }
    T &operator*() const noexcept { return *static_cast<T *>(ref_.object()); }

  private:
    handles::SlotRef ref_;
};

template <class T>
typename HandleTraits<T>::CType *open_handle(handles::Reservation &reservation,
                                             std::shared_ptr<T> object) noexcept {
    return reinterpret_cast<typename HandleTraits<T>::CType *>(
        reservation.open(HandleTraits<T>::kind, std::move(object)));
}

template <class T>
typename HandleTraits<T>::CType *open_handle(std::shared_ptr<T> object) {
    handles::Reservation reservation;
    return open_handle<T>(reservation, std::move(object));
}

template <class T>
bool close_handle(const typename HandleTraits<T>::CType *handle) noexcept {
    return handles::close(reinterpret_cast<std::uintptr_t>(handle), HandleTraits<T>::kind);
}

}  // namespace dynamo
