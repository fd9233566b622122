// SPDX-License-Identifier: Apache-2.0
#include "embed/platform.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/environment.hpp"
#include "base/platform.hpp"

#if defined(_WIN32)

// Embedding is not implemented on Windows, because it could not be tested there; the native engines work.
namespace dynamo::embed::platform {
void *global_symbol(const char *) noexcept {
    return nullptr;
}
bool promote_loaded_python() {
    return false;
}
std::string own_path() {
    return {};
}
Output run(const std::vector<std::string> &, std::chrono::milliseconds,
           const std::function<bool(const std::string &)> &) {
    return {};
}
std::vector<std::string> search_path() {
    return {};
}
bool is_executable(const std::string &) noexcept {
    return false;
}
}  // namespace dynamo::embed::platform

#else

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <link.h>
#endif

extern char **environ;

namespace dynamo::embed::platform {
namespace {

constexpr std::size_t most_output = std::size_t{1} << 18;

}  // namespace

void *global_symbol(const char *name) noexcept {
    return ::dlsym(RTLD_DEFAULT, name);
}

bool promote_loaded_python() {
#if defined(__linux__)
    std::string path;
    ::dl_iterate_phdr(
        [](dl_phdr_info *info, std::size_t, void *found) {
            const char *const slash = std::strrchr(info->dlpi_name, '/');
            const char *const name = slash == nullptr ? info->dlpi_name : slash + 1;
            // Skips libpython3.so, which is only a stub for the stable ABI.
            if (std::strncmp(name, "libpython3.", 11) == 0 &&
                std::strncmp(name, "libpython3.so", 13) != 0) {
                *static_cast<std::string *>(found) = info->dlpi_name;
                return 1;
            }
            return 0;
        },
        &path);
    return !path.empty() && ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD) != nullptr;
#else
    return false;
#endif
}

std::string own_path() {
    Dl_info info;
    if (::dladdr(reinterpret_cast<void *>(&own_path), &info) == 0 || info.dli_fname == nullptr) {
        return {};
    }
    std::error_code error;
    const auto path = std::filesystem::canonical(info.dli_fname, error);
    return error ? std::string() : path.string();
}

Output run(const std::vector<std::string> &command, std::chrono::milliseconds time_limit,
           const std::function<bool(const std::string &)> &is_enough) {
    Output output;
    int pipe_ends[2];
#if defined(__linux__)
    const int failed = ::pipe2(pipe_ends, O_CLOEXEC);
#else
    const int failed = ::pipe(pipe_ends);
#endif
    if (failed != 0) {
        output.text = std::string("no pipe: ") + dynamo::platform::error_text(errno);
        return output;
    }
#if !defined(__linux__)
    ::fcntl(pipe_ends[0], F_SETFD, FD_CLOEXEC);
    ::fcntl(pipe_ends[1], F_SETFD, FD_CLOEXEC);
#endif

    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, pipe_ends[1], 1);
    ::posix_spawn_file_actions_adddup2(&files, pipe_ends[1], 2);
    // The child must not inherit the host's signal mask and ignored signals.
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::vector<char *> arguments;
    for (const std::string &argument : command) {
        arguments.push_back(const_cast<char *>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    pid_t child = -1;
    const int error =
        ::posix_spawn(&child, arguments[0], &files, &attributes, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
    ::close(pipe_ends[1]);
    if (error != 0) {
        ::close(pipe_ends[0]);
        output.text = dynamo::platform::error_text(error);
        return output;
    }
    output.was_started = true;

    const auto until = std::chrono::steady_clock::now() + time_limit;
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                              until - std::chrono::steady_clock::now())
                              .count();
        pollfd waiting{pipe_ends[0], POLLIN, 0};
        const int ready = left <= 0 ? 0 : ::poll(&waiting, 1, static_cast<int>(left));
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0) {
            output.timed_out = true;
            break;
        }
        char buffer[4096];
        const ssize_t count = ::read(pipe_ends[0], buffer, sizeof buffer);
        if (count > 0) {
            output.text.append(buffer, static_cast<std::size_t>(count));
            if (is_enough(output.text)) {
                break;
            }
            if (output.text.size() > most_output) {
                output.text.erase(0, output.text.size() / 2);
            }
        } else if (count == 0 || errno != EINTR) {
            break;
        }
    }
    ::close(pipe_ends[0]);
    // Ignores the exit status: the host may have reaped the child, or may ignore SIGCHLD. waitpid() returning 0
    // means that the child was not reaped, so its process ID was not reused and kill() is safe.
    while (true) {
        const pid_t ended = ::waitpid(child, nullptr, WNOHANG);
        if (ended == child || (ended < 0 && errno != EINTR)) {
            break;
        }
        if (ended == 0 && std::chrono::steady_clock::now() >= until) {
            ::kill(child, SIGKILL);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return output;
}

std::vector<std::string> search_path() {
    std::vector<std::string> folders;
    const char *const path = environment::variable("PATH");
    std::string rest = path == nullptr ? "" : path;
    while (!rest.empty()) {
        const std::size_t colon = rest.find(':');
        if (colon != 0) {
            folders.push_back(rest.substr(0, colon));
        }
        rest = colon == rest.npos ? "" : rest.substr(colon + 1);
    }
    return folders;
}

bool is_executable(const std::string &path) noexcept {
    std::error_code error;
    return std::filesystem::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace dynamo::embed::platform

#endif
