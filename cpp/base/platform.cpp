// SPDX-License-Identifier: Apache-2.0
#include "base/platform.hpp"

#include <locale.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "base/error.hpp"

#if !defined(_WIN32)
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <link.h>
#include <sys/eventfd.h>
#endif
#if defined(__APPLE__)
#include <xlocale.h>
#endif

namespace dynamo::platform {

constinit std::atomic<bool> detail::forked{false};

std::string error_text(int error) {
#if !defined(_WIN32)
    // Never freed, because threads may need it while the process exits.
    static const locale_t english = ::newlocale(LC_ALL_MASK, "C", nullptr);
    if (english != nullptr) {
        return ::strerror_l(error, english);
    }
#endif
    return "system error " + std::to_string(error);
}

namespace {

[[noreturn]] void fail_to_open(const char *owner, const char *call, int error) {
    throw Failure(DYNAMO_ERROR_SYSTEM, std::string("cannot open a file descriptor for the ") +
                                           owner + " (" + call + "): " + error_text(error));
}

}  // namespace

#if defined(__linux__)

Notifier::Notifier(const char *owner) {
    read_fd_ = write_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (read_fd_ < 0) {
        fail_to_open(owner, "eventfd", errno);
    }
}

#elif !defined(_WIN32)

Notifier::Notifier(const char *owner) {
    int ends[2];
    if (::pipe(ends) != 0) {
        fail_to_open(owner, "pipe", errno);
    }
    read_fd_ = ends[0];
    write_fd_ = ends[1];
    for (int fd : ends) {
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        ::fcntl(fd, F_SETFL, O_NONBLOCK);
    }
}

#else

Notifier::Notifier(const char *) {
    throw Failure(DYNAMO_ERROR_NOT_SUPPORTED,
                  "this platform has no file descriptors to wait on; receive with "
                  "dynamo_request_next() or a callback");
}

#endif

#if !defined(_WIN32)

Notifier::~Notifier() {
    if (is_forked_child()) {
        return;  // shared with the parent
    }
    ::close(read_fd_);
    if (write_fd_ != read_fd_) {
        ::close(write_fd_);
    }
}

void Notifier::set() noexcept {
    if (!is_set_) {
        // Eight bytes are valid for an eventfd and for a pipe. Neither can be full, because at most one write is
        // unread.
        const std::uint64_t one = 1;
        is_set_ = ::write(write_fd_, &one, sizeof one) == sizeof one;
    }
}

void Notifier::clear() noexcept {
    if (is_set_) {
        std::uint64_t value;
        is_set_ = ::read(read_fd_, &value, sizeof value) != sizeof value;
    }
}

void guard_fork() noexcept {
    static std::once_flag once;
    std::call_once(once, [] { ::pthread_atfork(nullptr, nullptr, [] { detail::forked = true; }); });
}

namespace {

// Blocks all signals except faults of the thread itself, so that handlers of the host do not run in threads of the
// library.
class SignalsBlocked {
  public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) {
            sigdelset(&all, fault);
        }
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_;
};

void name_this_thread(const char *name) {
#if defined(__APPLE__)
    ::pthread_setname_np(name);
#else
    ::pthread_setname_np(::pthread_self(), name);
#endif
}

}  // namespace

#else

Notifier::~Notifier() = default;
void Notifier::set() noexcept {}
void Notifier::clear() noexcept {}
void guard_fork() noexcept {}

namespace {
class SignalsBlocked {};
void name_this_thread(const char *) {}
}  // namespace

#endif

#if !defined(_WIN32)

void *open_library(const std::string &path, Visibility visibility, std::string &problem) {
    const int scope = visibility == Visibility::global ? RTLD_GLOBAL : RTLD_LOCAL;
    void *const library = ::dlopen(path.c_str(), RTLD_NOW | scope);
    if (library == nullptr) {
        const char *const reason = ::dlerror();
        problem = reason == nullptr ? "" : reason;
    }
    return library;
}

void *symbol(void *library, const char *name) noexcept {
    return ::dlsym(library, name);
}

namespace {

#if defined(__linux__)

// Returns the name of a machine, as in e_machine of an ELF header.
std::string machine_name(unsigned machine) {
    switch (machine) {
        case EM_386:
            return "x86 (32 bits)";
        case EM_ARM:
            return "ARM (32 bits)";
        case EM_X86_64:
            return "x86-64";
        case EM_AARCH64:
            return "aarch64";
        case EM_RISCV:
            return "RISC-V";
        case EM_PPC64:
            return "ppc64";
        case EM_S390:
            return "s390x";
        default:
            return "another machine (ELF machine " + std::to_string(machine) + ")";
    }
}

// glibc reports a library for another machine as a missing file.
std::string header_problem(int fd) {
    ElfW(Ehdr) header{};
    const ssize_t size = ::pread(fd, &header, sizeof header, 0);
    if (size < static_cast<ssize_t>(sizeof header) ||
        std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
        return "is not a shared library (ELF)";
    }
    Dl_info own;  // the header of the file that contains this code is in memory
    if (::dladdr(reinterpret_cast<void *>(&header_problem), &own) == 0) {
        return {};
    }
    const auto &host = *static_cast<const ElfW(Ehdr) *>(own.dli_fbase);
    if (std::memcmp(host.e_ident, ELFMAG, SELFMAG) != 0) {
        return {};
    }
    if (header.e_ident[EI_DATA] != host.e_ident[EI_DATA]) {
        return "is a library for another byte order than that of this program";
    }
    if (header.e_machine != host.e_machine || header.e_ident[EI_CLASS] != host.e_ident[EI_CLASS]) {
        return "is a library for " + machine_name(header.e_machine) + ", but this program is for " +
               machine_name(host.e_machine);
    }
    return header.e_type == ET_DYN ? "" : "is an ELF file, but not a shared library";
}

#else

std::string header_problem(int) {
    return {};  // the loader's message says it
}

#endif

}  // namespace

std::string library_problem(const std::string &path) {
    // O_NONBLOCK: opening a FIFO would wait for a writer.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT ? "does not exist" : "cannot be read: " + error_text(errno);
    }
    struct Closed {
        int fd;
        ~Closed() { ::close(fd); }
    } const closed{fd};
    struct stat about{};
    if (::fstat(fd, &about) != 0) {
        return "cannot be read: " + error_text(errno);
    }
    return S_ISDIR(about.st_mode)    ? "is a folder"
           : !S_ISREG(about.st_mode) ? "is not a regular file"
                                     : header_problem(fd);
}

#else

void *open_library(const std::string &, Visibility, std::string &problem) {
    problem = "libraries cannot be loaded on Windows yet";
    return nullptr;
}
void *symbol(void *, const char *) noexcept {
    return nullptr;
}
std::string library_problem(const std::string &) {
    return {};
}

#endif

void start_thread(const char *name, std::function<void()> function) {
    guard_fork();
    [[maybe_unused]] SignalsBlocked blocked;
    try {
        // Detached: the destructor of a joinable thread would terminate the program at exit.
        std::thread([name, function = std::move(function)] {
            name_this_thread(name);
            function();
        }).detach();
    } catch (const std::system_error &error) {
        throw Failure(DYNAMO_ERROR_SYSTEM, std::string("cannot start the thread '") + name +
                                               "': " + error_text(error.code().value()));
    }
}

void start_permanent_thread(const char *name, const std::function<void()> &function) {
    // Runs when the stack is unwound, because a callback ended the thread.
    struct Replacement {
        const char *name;
        const std::function<void()> &function;
        ~Replacement() {
            while (true) {
                try {
                    start_permanent_thread(name, function);
                    return;
                } catch (const std::exception &) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(10));
                }
            }
        }
    };
    start_thread(name, [name, function] {
        const Replacement replacement{name, function};
        function();
    });
}

}  // namespace dynamo::platform
