// SPDX-License-Identifier: Apache-2.0
// Everything that differs between operating systems, and nothing else.
#pragma once

#include <atomic>
#include <functional>

namespace dynamo::platform {

// A level that can be waited for with poll(): readable from set() to clear(). Not thread-safe.
class Notifier {
  public:
    Notifier();  // throws Failure with SYSTEM or NOT_SUPPORTED
    ~Notifier();
    Notifier(const Notifier &) = delete;
    Notifier &operator=(const Notifier &) = delete;

    int fd() const noexcept { return read_fd_; }
    void set() noexcept;
    void clear() noexcept;

  private:
    int read_fd_ = -1;
    int write_fd_ = -1;  // the same as read_fd_ where one descriptor serves both
    bool is_set_ = false;
};

// Runs a function in a new, detached thread that takes no signals of the host.
// Throws Failure with SYSTEM.
void start_thread(const char *name, std::function<void()> function);

// A hint that memory is written soon: the CPU may load it meanwhile.
inline void prefetch_to_write(const void *memory, std::size_t size) noexcept {
#if defined(__GNUC__)
    constexpr std::size_t line = 64;  // bytes, of most CPUs' caches
    for (std::size_t at = 0; at < size; at += line) {
        __builtin_prefetch(static_cast<const char *>(memory) + at, 1);
    }
#else
    (void)memory, (void)size;
#endif
}

// Marks this process as the user of threads and descriptors; a child made by fork() later sees
// is_forked_child(). Cheap to repeat.
void guard_fork() noexcept;
namespace detail {
extern std::atomic<bool> forked;
}
inline bool is_forked_child() noexcept {
    return detail::forked.load(std::memory_order_relaxed);
}

}  // namespace dynamo::platform
