// SPDX-License-Identifier: Apache-2.0
// Handles that many threads use, replace, and destroy without coordination.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <random>

// Random numbers of one thread: the same seed yields the same sequence.
class Chance {
  public:
    explicit Chance(std::uint64_t seed) : generator_(seed) {}
    std::uint64_t below(std::uint64_t bound) { return generator_() % bound; }
    bool one_in(std::uint64_t count) { return below(count) == 0; }

  private:
    std::mt19937_64 generator_;
};

class Pool {
  public:
    // Returns a handle that some thread added, live or destroyed since; or NULL; or a number that never was a handle.
    void *any(Chance &chance) const {
        switch (chance.below(16)) {
            case 0:
                return nullptr;
            case 1:
                return reinterpret_cast<void *>(
                    static_cast<std::uintptr_t>(chance.below(UINT64_MAX)) | 1);
            default:
                return places_[chance.below(places_.size())].load(std::memory_order_relaxed);
        }
    }

    // Replaces a random handle and returns the old one, so that the caller can destroy it. Otherwise it would leak.
    void *exchange(Chance &chance, void *handle) {
        return places_[chance.below(places_.size())].exchange(handle);
    }

    template <class Use>
    void each(Use use) {
        for (auto &place : places_) {
            use(place.exchange(nullptr));
        }
    }

  private:
    std::array<std::atomic<void *>, 64> places_{};
};
