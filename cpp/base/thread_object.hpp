// SPDX-License-Identifier: Apache-2.0
// One object per thread that can be used at any time, even in the last destructor of a thread or of the process. A
// `thread_local` with a destructor cannot: on the main thread it is destroyed before exit handlers and destructors of
// static objects run, and on other threads before the destructors of thread-specific data (pthread_key_create()).
#pragma once

#include <atomic>
#include <new>

#if defined(_WIN32)
#include <windows.h>
#else
#include <pthread.h>
#endif

namespace dynamo {

// Declare it `constinit` at namespace scope. Has no run-time constructor and no destructor.
template <class T>
class ThreadObject {
  public:
    constexpr ThreadObject() = default;

    // Returns this thread's object, which the first call creates. Returns nullptr without memory or a free key, or if
    // the thread has ended so far that the object would leak.
    T *get() noexcept {
        Key key;
        if (!get_key(key)) {
            return nullptr;
        }
        if (void *const object = value(key)) {
            return static_cast<T *>(object);
        }
        if (creations >= max_creations) {
            return nullptr;
        }
        T *const object = new (std::nothrow) T;
        if (object != nullptr && !set_value(key, object)) {
            delete object;
            return nullptr;
        }
        return object;
    }

    // As get(), without creating the object.
    T *existing() noexcept {
        Key key;
        return get_key(key) ? static_cast<T *>(value(key)) : nullptr;
    }

  private:
    // Destructors of other thread-specific data may create the object again; it is freed in the next round of
    // destructors. POSIX guarantees 4 rounds (PTHREAD_DESTRUCTOR_ITERATIONS); the last one could not free it.
    static constexpr unsigned char max_creations = 3;
    static inline thread_local unsigned char creations = 0;

#if defined(_WIN32)
    using Key = DWORD;
    static bool create(Key &key) noexcept {
        return (key = ::FlsAlloc(&free)) != FLS_OUT_OF_INDEXES;
    }
    static void drop(Key key) noexcept { ::FlsFree(key); }
    static void *value(Key key) noexcept { return ::FlsGetValue(key); }
    static bool set_value(Key key, void *object) noexcept {
        return ::FlsSetValue(key, object) != 0;
    }
    static void WINAPI free(void *object) {
#else
    using Key = pthread_key_t;
    static bool create(Key &key) noexcept { return ::pthread_key_create(&key, &free) == 0; }
    static void drop(Key key) noexcept { ::pthread_key_delete(key); }
    static void *value(Key key) noexcept { return ::pthread_getspecific(key); }
    static bool set_value(Key key, void *object) noexcept {
        return ::pthread_setspecific(key, object) == 0;
    }
    static void free(void *object) {
#endif
        ++creations;
        delete static_cast<T *>(object);
    }

    bool get_key(Key &key) noexcept {
        unsigned long long known = key_.load(std::memory_order_acquire);
        if (known == 0) {
            if (!create(key)) {
                return false;
            }
            if (key_.compare_exchange_strong(known, key + 1ULL, std::memory_order_acq_rel,
                                             std::memory_order_acquire)) {
                return true;
            }
            drop(key);  // another thread created one first
        }
        key = static_cast<Key>(known - 1);
        return true;
    }

    std::atomic<unsigned long long> key_{0};  // the key plus 1; 0 before the first use
};

}  // namespace dynamo
