// SPDX-License-Identifier: Apache-2.0
// main() returns while threads of the program are inside the library: the exit code is that of main(). Each scenario
// runs in its own process.
#include <atomic>
#include <memory>
#include <thread>

#include "support.hpp"

extern "C" {
#include "../embed/embed.h"
}

namespace {

std::atomic<int> begun{0};

// Waits until a thread has started.
void wait_for_begin() {
    while (begun < 3) {
        std::this_thread::sleep_for(milliseconds(1));
    }
}

Runtime start_cpp(const char *engine) {
    char *const config = engine_config(engine, "");
    Runtime runtime = Runtime(std::string(config));
    std::free(config);
    return runtime;
}

// The loop of the README, in a detached thread.
void read_all(const std::shared_ptr<Runtime> &runtime) {
    for (const Response &response : runtime->send(Completion("a b c"))) {
        begun += response.token_ids().size() > 0 || !response.text().empty();
    }
}

void detach(const char *engine, void (*read)(const std::shared_ptr<Runtime> &)) {
    std::thread(read, std::make_shared<Runtime>(start_cpp(engine))).detach();
    wait_for_begin();
}

void a_loop() {
    detach("leaving:Endless", read_all);
}

void a_loop_over_a_threaded_engine() {
    detach("leaving:EndlessThreaded", read_all);
}

void a_loop_over_the_demo_model() {
    const auto runtime = std::make_shared<Runtime>(std::string(R"({"stream": {"capacity": 4}})"));
    std::thread(read_all, runtime).detach();
    wait_for_begin();
}

void recv() {
    detach("leaving:Endless", [](const std::shared_ptr<Runtime> &runtime) {
        const Request request = runtime->send(Completion("a"));
        while (const Response response = request.recv()) {
            ++begun;
        }
    });
}

void request_after_request() {
    detach("echoes:Async", [](const std::shared_ptr<Runtime> &runtime) {
        while (true) {
            read_all(runtime);
        }
    });
}

void runtime_after_runtime() {
    std::thread([] {
        while (true) {
            const Runtime runtime = start_cpp("echoes:Async");
            ++begun;
        }
    }).detach();
    wait_for_begin();
}

void many_threads() {
    const auto runtime = std::make_shared<Runtime>(start_cpp("leaving:Endless"));
    for (int i = 0; i < 8; ++i) {
        std::thread(read_all, runtime).detach();
    }
    wait_for_begin();
}

// A thread that the destructor of a static object joins, after the library's exit handler has run.
struct Joining {
    std::thread thread;
    ~Joining() {
        if (thread.joinable()) {
            thread.join();
        }
    }
};
Joining joining;

void a_static_object_joins() {
    joining.thread = std::thread(read_all, std::make_shared<Runtime>(start_cpp("leaving:Endless")));
    wait_for_begin();
}

const struct {
    const char *name;
    void (*run)();
} scenarios[] = {
    {"a_loop", a_loop},
    {"a_loop_over_a_threaded_engine", a_loop_over_a_threaded_engine},
    {"a_loop_over_the_demo_model", a_loop_over_the_demo_model},
    {"recv", recv},
    {"request_after_request", request_after_request},
    {"runtime_after_runtime", runtime_after_runtime},
    {"many_threads", many_threads},
    {"a_static_object_joins", a_static_object_joins},
};

}  // namespace

int main(int argc, char **argv) {
    for (const auto &scenario : scenarios) {
        if (argc > 1) {
            if (std::strcmp(argv[1], scenario.name) == 0) {
                scenario.run();
                return 0;
            }
            continue;
        }
        child process = run_self(scenario.name, "");
        check_exited(scenario.name, &process);
        CHECK_TEXT(process.err, "");
        child_free(&process);
    }
    return argc > 1 ? 2 : 0;
}
