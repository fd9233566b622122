// SPDX-License-Identifier: Apache-2.0
// Destructors of static objects, of thread_local objects, and of thread-specific data may call the library: each call
// returns a status, and the heap stays intact. Each scenario runs in its own process.
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "dynamo_llm/engine.h"
#include "support.hpp"

extern "C" {
#include "../c/calls.h"
}

// Detects use after free: blocks of many sizes that reuse memory the library may have freed. Nothing else may write to
// them.
class Canaries {
  public:
    Canaries() {
        for (std::size_t i = 0; i < 300; ++i) {
            blocks_.emplace_back(16 + i * 4, 'A');
        }
    }
    ~Canaries() {
        for (const std::string &block : blocks_) {
            CHECK(block.find_first_not_of('A') == std::string::npos);
        }
    }

  private:
    std::vector<std::string> blocks_;
};

static dynamo_runtime_t *runtime;

static void use_everything() {
    const Canaries canaries;
    // Long, so that storing the message needs a new allocation.
    const std::string body = "{\"" + std::string(3000, 'k') + "\": 1}";
    for (int round = 0; round < 3; ++round) {
        CHECK(dynamo_request_create(body.c_str()) == nullptr);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
        CHECK(std::strlen(dynamo_last_error()) > 10 && std::strlen(dynamo_last_error_json()) >= 2);
    }
    dynamo_request_destroy(say("x"));  // a success: NULL no longer repeats a failed create
    for (std::size_t i = 0; i < call_count; ++i) {
        if (!calls[i].null_is_fine) {
            CHECK_STATUS(calls[i].call(nullptr), DYNAMO_ERROR_INVALID_HANDLE);
        }
    }
    CHECK_STATUS(dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, body.c_str(), R"({"a": 1})"),
                 DYNAMO_ERROR_OVERLOADED);
    dynamo_log_write(DYNAMO_LOG_DEBUG, "test", "a record");
    for (char *text : {dynamo_runtime_models(runtime), dynamo_runtime_metrics(runtime),
                       dynamo_runtime_statistics(runtime)}) {
        CHECK(text != nullptr);
        dynamo_free(text);
    }
    dynamo_runtime_t *const late = start_echo();
    check_answer(sent(late, say("late")), "late", DYNAMO_END);
    dynamo_runtime_destroy(late);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    CHECK(*dynamo_last_error() == '\0');
}

struct User {
    ~User() { use_everything(); }
};

// Each scenario uses the library in the main thread, so that its thread-specific data exists.
static int static_object() {
    static const User user;
    use_everything();
    return 7;
}

static int static_object_before_the_first_use() {
    static const User user;
    return 7;
}

static int thread_local_object_of_main() {
    static thread_local const User user;
    use_everything();
    return 7;
}

static int exit_function() {
    CHECK(std::atexit(use_everything) == 0);
    use_everything();
    CHECK(std::atexit(use_everything) == 0);
    return 7;
}

static int exit_of_another_thread() {
    static const User user;
    use_everything();
    std::thread([] {
        use_everything();
        exit(7);
    }).join();
    return 1;
}

static int thread_local_objects() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([i] {
            if (i % 2 == 0) {
                use_everything();  // before the object is created, and so destroyed after it
            }
            static thread_local const User user;
            (void)&user;
            use_everything();
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    return 7;
}

static pthread_key_t keys[8];
static thread_local int rounds;
#if defined(UNDER_THREAD_SANITIZER)
static constexpr int most_calls = 17;  // the sanitizer needs the last of the four rounds for itself
#else
static constexpr int most_calls = 64;
#endif

// Calls the library in every round of destructors, before and after the destructor of the library's own key.
static void destroy_data(void *key) {
    use_everything();
    if (++rounds < most_calls) {
        pthread_setspecific(*static_cast<pthread_key_t *>(key), key);
    }
}

static int thread_specific_data() {
    const auto make = [](int from) {
        for (int i = from; i < from + 4; ++i) {
            CHECK(pthread_key_create(&keys[i], destroy_data) == 0);
        }
    };
    make(0);
    use_everything();
    make(4);
    for (int i = 0; i < 4; ++i) {
        std::thread([] {
            for (pthread_key_t &key : keys) {
                CHECK(pthread_setspecific(key, &key) == 0);
            }
            use_everything();
        }).join();
    }
    use_everything();
    return 7;
}

// The threads run while the process exits, and never end.
static int threads_that_outlive_main() {
    static const User user;
    static std::atomic<int> started{0};
    for (int i = 0; i < 4; ++i) {
        std::thread([] {
            ++started;
            while (true) {
                CHECK(dynamo_request_create("{\"x\": 1}") == nullptr);
                CHECK(dynamo_last_error_json() != nullptr);
                dynamo_free(dynamo_runtime_models(runtime));
            }
        }).detach();
    }
    EVENTUALLY(started == 4);
    use_everything();
    return 7;
}

struct Way {
    const char *name;
    int (*end)();
};

#define WAY(function)       \
    Way {                   \
        #function, function \
    }
static const Way ways[] = {
    WAY(static_object),
    WAY(static_object_before_the_first_use),
    WAY(thread_local_object_of_main),
    WAY(exit_function),
    WAY(exit_of_another_thread),
    WAY(thread_local_objects),
    WAY(thread_specific_data),
    WAY(threads_that_outlive_main),
};

static int run(const Way &way) {
    runtime = start("{'engine': 'echo'}");
    return way.end();
}

static void check(const Way &way) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execl("/proc/self/exe", "test_destructors", way.name, static_cast<char *>(nullptr));
        _exit(127);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
        std::fprintf(stderr, "%s ended with wait status 0x%x\n", way.name,
                     static_cast<unsigned>(status));
        CHECK(!"a process ended in another way");
    }
}

int main(int count, char **arguments) {
    BEGIN();
    for (const Way &way : ways) {
        if (count == 1) {
            std::fprintf(stderr, "  %s\n", way.name);
            check(way);
        } else if (std::strcmp(arguments[1], way.name) == 0) {
            return run(way);
        }
    }
    if (count == 1) {
        write_reliability(
            __FILE__, "main",
            "destructors of static and thread_local objects and of thread-specific data, and exit "
            "functions, call the library",
            std::size(ways), "a status each time, with its message; no memory was touched");
    }
    return count > 1;
}
