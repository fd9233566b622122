// SPDX-License-Identifier: Apache-2.0
#include "base/handle.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <type_traits>

#include "base/error.hpp"
#include "base/failed_create.hpp"

static_assert(sizeof(void *) == 8, "handles need 64-bit pointers");

namespace dynamo::handles {

const char *kind_name(HandleKind kind) noexcept {
    // In the order of HandleKind, which begins with 1.
    constexpr std::array names = {"object",    "runtime",     "request", "response",     "stream",
                                  "tokenizer", "detokenizer", "worker",  "KV publisher", "router",
                                  "queue",     "creation",    "chat",    "JSON text"};
    static_assert(names.size() == static_cast<std::size_t>(HandleKind::json) + 1);
    const auto at = static_cast<std::size_t>(kind);
    return names[at < names.size() ? at : 0];
}

const char *release_function(HandleKind kind) noexcept {
    constexpr std::array functions = {"no function",
                                      "dynamo_runtime_destroy()",
                                      "dynamo_request_destroy()",
                                      "dynamo_free()",
                                      "dynamo_stream_finish() or dynamo_stream_fail()",
                                      "dynamo_tokenizer_destroy()",
                                      "dynamo_detokenizer_destroy()",
                                      "dynamo_worker_destroy()",
                                      "dynamo_kv_publisher_destroy()",
                                      "dynamo_router_destroy()",
                                      "dynamo_queue_destroy()"};
    static_assert(functions.size() == static_cast<std::size_t>(HandleKind::queue) + 1);
    const auto at = static_cast<std::size_t>(kind);
    return functions[at < functions.size() ? at : 0];
}

namespace {

// handle: generation (32) | index (27) | kind (4) | 1
constexpr std::uint32_t index_bits = 27;
constexpr unsigned index_shift = 5;
constexpr std::uintptr_t kind_mask = 15;
constexpr std::uint32_t slots_per_block = 1024;
constexpr std::uint32_t block_count = (1u << index_bits) / slots_per_block;
// End of the free list; slot 0 is never used.
constexpr std::uint32_t none = 0;

class Table {
  public:
    Slot *at(std::uint32_t index) noexcept {
        Slot *const block = blocks_[index / slots_per_block].load(std::memory_order_acquire);
        return block == nullptr ? nullptr : block + index % slots_per_block;
    }

    // As at(), for a slot that is known to exist.
    Slot *existing(std::uint32_t index) noexcept {
        return blocks_[index / slots_per_block].load(std::memory_order_acquire) +
               index % slots_per_block;
    }

    Slot *allocate() {
        while (true) {
            std::uint64_t head = free_.load(std::memory_order_acquire);
            while (static_cast<std::uint32_t>(head) != none) {
                Slot *const slot = existing(static_cast<std::uint32_t>(head));
                const std::uint64_t next =
                    tagged(head, slot->next_free.load(std::memory_order_relaxed));
                if (free_.compare_exchange_weak(head, next, std::memory_order_acq_rel)) {
                    return slot;
                }
            }
            grow();
        }
    }

    void release(Slot *slot) noexcept {
        std::uint64_t head = free_.load(std::memory_order_relaxed);
        do {
            slot->next_free.store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
        } while (!free_.compare_exchange_weak(head, tagged(head, slot->index),
                                              std::memory_order_acq_rel));
    }

  private:
    // The upper half counts changes, which prevents the ABA problem.
    static std::uint64_t tagged(std::uint64_t head, std::uint32_t index) {
        return ((head >> 32) + 1) << 32 | index;
    }

    struct Grown {
        std::atomic_flag &flag;
        ~Grown() { flag.clear(std::memory_order_release); }
    };

    void grow() {
        // A spin lock, because a std::mutex may have a destructor, and the table must not.
        while (is_growing_.test_and_set(std::memory_order_acquire)) {
            std::this_thread::yield();
        }
        const Grown grown{is_growing_};
        if (static_cast<std::uint32_t>(free_.load(std::memory_order_acquire)) != none) {
            return;
        }
        if (blocks_used_ == block_count) {
            throw Failure(DYNAMO_ERROR_OUT_OF_MEMORY, "too many open handles");
        }
        Slot *const block = new Slot[slots_per_block];
        const std::uint32_t first = blocks_used_ * slots_per_block;
        for (std::uint32_t i = 0; i < slots_per_block; ++i) {
            block[i].index = first + i;
        }
        blocks_[blocks_used_++].store(block, std::memory_order_release);
        for (std::uint32_t i = slots_per_block; i-- > 0;) {
            if (first + i != none) {
                release(&block[i]);
            }
        }
    }

    std::array<std::atomic<Slot *>, block_count> blocks_{};
    std::atomic<std::uint64_t> free_{none};
    std::atomic_flag is_growing_;
    std::uint32_t blocks_used_ = 0;
};

// Handles may be used before and after main(), so the table has no run-time constructor and no destructor.
constinit Table the_table;
static_assert(std::is_trivially_destructible_v<Table>);

std::uint32_t index_of(std::uintptr_t handle) {
    return static_cast<std::uint32_t>(handle >> index_shift) & ((1u << index_bits) - 1);
}

std::uint32_t generation_of(std::uintptr_t handle) {
    return static_cast<std::uint32_t>(handle >> 32);
}

HandleKind kind_of(std::uintptr_t handle) {
    return static_cast<HandleKind>((handle >> 1) & kind_mask);
}

}  // namespace

HandleKind claimed_kind(const void *pointer) noexcept {
    const auto handle = reinterpret_cast<std::uintptr_t>(pointer);
    const HandleKind kind = kind_of(handle);
    const bool is_known = (handle & 1) != 0 && kind >= HandleKind::runtime &&
                          kind <= HandleKind::queue && generation_of(handle) >> 31 != 0;
    return is_known ? kind : HandleKind{};
}

namespace {

// Throws the Failure that explains why a handle is not valid.
[[noreturn]] void reject(std::uintptr_t handle, HandleKind kind) {
    const auto fail = [kind](const std::string &why) {
        throw Failure(DYNAMO_ERROR_INVALID_HANDLE,
                      std::string("not a valid ") + kind_name(kind) + ": " + why);
    };
    if (handle == 0) {
        failed_create::rethrow(kind);
        fail("it is NULL; check the result of the function that creates it");
    }
    const HandleKind actual_kind = kind_of(handle);
    if ((handle & 1) != 0 && actual_kind != kind && actual_kind >= HandleKind::runtime &&
        actual_kind <= HandleKind::json) {
        fail(std::string("it is a ") + kind_name(actual_kind));
    }
    const Slot *const slot = the_table.at(index_of(handle));
    if ((handle & 1) != 0 && actual_kind == kind && slot != nullptr) {
        const std::uint64_t state = slot->state.load(std::memory_order_acquire);
        if (Slot::generation(state) != generation_of(handle) || (state & Slot::closed_bit) != 0) {
            fail("it was already destroyed or freed");
        }
    }
    fail("it was not created by this library");
    std::abort();  // not reached
}

}  // namespace

Reservation::Reservation() : slot_(the_table.allocate()) {}

Reservation::~Reservation() {
    if (slot_ != nullptr) {
        the_table.release(slot_);
    }
}

std::uintptr_t Reservation::open(HandleKind kind, std::shared_ptr<void> object) noexcept {
    Slot *const slot = std::exchange(slot_, nullptr);
    slot->kind.store(kind, std::memory_order_relaxed);
    slot->object = std::move(object);
    const std::uint32_t generation = Slot::generation(slot->state.load(std::memory_order_relaxed));
    slot->state.store(std::uint64_t{generation} << 32 | 1, std::memory_order_release);
    return std::uintptr_t{generation} << 32 | std::uintptr_t{slot->index} << index_shift |
           std::uintptr_t{static_cast<std::uint8_t>(kind)} << 1 | 1;
}

void free_slot(Slot *slot, std::uint64_t state) noexcept {
    // Nobody can hold it again: closed, and no holders. The object's destructor may use other
    // handles, so it runs on a copy, after the slot is free.
    const std::shared_ptr<void> object = std::move(slot->object);
    slot->object.reset();
    const std::uint64_t next_generation = std::uint64_t{Slot::generation(state)} + 1;
    if (next_generation >> 32 != 0) {
        return;  // this slot has used up its generations; reused, old handles would fit again
    }
    slot->state.store(next_generation << 32 | Slot::closed_bit, std::memory_order_release);
    the_table.release(slot);
}

SlotRef acquire(std::uintptr_t handle, HandleKind kind) {
    Slot *const slot =
        (handle & 1) != 0 && kind_of(handle) == kind ? the_table.at(index_of(handle)) : nullptr;
    if (slot != nullptr) {
        std::uint64_t state = slot->state.load(std::memory_order_acquire);
        while (Slot::generation(state) == generation_of(handle) &&
               (state & Slot::closed_bit) == 0 &&
               slot->kind.load(std::memory_order_relaxed) == kind) {
            if (slot->state.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel,
                                                  std::memory_order_acquire)) {
                return SlotRef(slot, slot->object.get());
            }
        }
    }
    reject(handle, kind);
}

bool close(std::uintptr_t handle, HandleKind kind) noexcept {
    if ((handle & 1) == 0 || kind_of(handle) != kind) {
        return false;
    }
    Slot *const slot = the_table.at(index_of(handle));
    if (slot == nullptr) {
        return false;
    }
    std::uint64_t state = slot->state.load(std::memory_order_acquire);
    do {
        if (Slot::generation(state) != generation_of(handle) || (state & Slot::closed_bit) != 0 ||
            slot->kind.load(std::memory_order_relaxed) != kind) {
            return false;
        }
    } while (!slot->state.compare_exchange_weak(
        state, state | Slot::closed_bit, std::memory_order_acq_rel, std::memory_order_acquire));
    const SlotRef last(slot, nullptr);  // the open handle's own
    return true;
}

}  // namespace dynamo::handles
