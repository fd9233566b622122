// SPDX-License-Identifier: Apache-2.0
// Everything that differs between operating systems, and nothing else.
#pragma once

#include <atomic>
#include <functional>
#include <string>

namespace dynamo::platform {

// Describes an errno in English. strerror() would use the host's locale, and is not thread-safe.
std::string error_text(int error);

// A file descriptor for poll(), readable from set() to clear(). Not thread-safe.
class Notifier {
  public:
    // owner: for messages, such as "stream". Throws Failure with SYSTEM or NOT_SUPPORTED.
    explicit Notifier(const char *owner);
    ~Notifier();
    Notifier(const Notifier &) = delete;
    Notifier &operator=(const Notifier &) = delete;

    int fd() const noexcept { return read_fd_; }
    void set() noexcept;
    void clear() noexcept;

  private:
    int read_fd_ = -1;
    int write_fd_ = -1;  // equals read_fd_ for an eventfd
    bool is_set_ = false;
};

// Runs a function in a new detached thread, with the host's signals blocked. Throws Failure with SYSTEM.
void start_thread(const char *name, std::function<void()> function);

// As start_thread(), for a function that never returns. If a callback ends the thread, another thread runs the
// function again, as soon as the system has one.
void start_permanent_thread(const char *name, const std::function<void()> &function);

// Opens a shared library, which stays loaded until the process ends. Returns nullptr, and the loader's reason in
// `problem`, if that fails. The path needs a '/': without one, the loader searches the system's folders.
enum class Visibility { local, global };
void *open_library(const std::string &path, Visibility visibility, std::string &problem);
// Finds a function or object of an open library, or of those that it is linked with; nullptr if none has it.
void *symbol(void *library, const char *name) noexcept;
// Returns why a file cannot be a shared library of this process, as the end of a sentence: "is a folder". Returns "" if
// only open_library() can tell. Reads no more than the file's header, and does not block.
std::string library_problem(const std::string &path);

// Hints the CPU to load memory that will be written soon.
inline void prefetch_to_write(const void *memory, std::size_t size) noexcept {
#if defined(__GNUC__)
    constexpr std::size_t line = 64;  // bytes of a cache line of most CPUs
    for (std::size_t at = 0; at < size; at += line) {
        __builtin_prefetch(static_cast<const char *>(memory) + at, 1);
    }
#else
    (void)memory, (void)size;
#endif
}

// Records that this process uses the library: in a child that fork() creates later, is_forked_child() is true. May be
// called repeatedly.
void guard_fork() noexcept;
namespace detail {
extern std::atomic<bool> forked;
}
inline bool is_forked_child() noexcept {
    return detail::forked.load(std::memory_order_relaxed);
}

}  // namespace dynamo::platform
