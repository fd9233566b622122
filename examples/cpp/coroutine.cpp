/* Answers many questions in one thread, with a coroutine for each: coroutine "configuration" "question"...
 *
 *     g++ -std=c++20 -o coroutine coroutine.cpp $(dynamo-llm config --cflags --libs)
 *     ./coroutine '{}' "What is a KV cache?" "What is prefill?" "What is decode?"
 *
  * Prints each piece of an answer with the number of its question. Ctrl-C cancels all of them; a second Ctrl-C ends the
 * program immediately. */
#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <csignal>
#include <dynamo_llm.hpp>
#include <exception>
#include <iostream>
#include <mutex>
#include <stop_token>
#include <utility>
#include <vector>

static volatile std::sig_atomic_t interrupted;

// Signal handlers must not call the library.
static void interrupt(int number) {
    interrupted = 1;
    std::signal(number, SIG_DFL);
}

// A custom executor: any thread may post a coroutine that is ready; the thread that runs the loop resumes it.
class Loop {
  public:
    void post(std::coroutine_handle<> coroutine) {
        const std::lock_guard lock(mutex_);
        ready_.push_back(coroutine);
        changed_.notify_one();
    }
    // Waits at most `patience` for posted coroutines, and resumes them.
    void turn(std::chrono::milliseconds patience) {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, patience, [this] { return !ready_.empty(); });
        const auto ready = std::exchange(ready_, {});
        lock.unlock();
        for (const auto coroutine : ready) {
            coroutine.resume();
        }
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::coroutine_handle<>> ready_;
};

// A coroutine that is not awaited and frees itself at its end.
struct Detached {
    struct promise_type {
        Detached get_return_object() { return {}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

// State shared by the coroutines; only the thread of the loop accesses it.
struct Program {
    Loop loop;
    std::stop_source stop;
    int left = 0;
    int result = 0;
};

static Detached answer(Program &program, int number, dynamo_llm::Request sent) {
    dynamo_llm::AsyncRequest request(
        std::move(sent), [&loop = program.loop](auto coroutine) { loop.post(coroutine); });
    const auto cancel = request.request().cancel_on(program.stop.get_token());
    while (const auto received = co_await request.next()) {
        std::cout << number << ": " << received.response.text() << std::endl;
    }
    if (const auto error = request.request().error()) {
        const bool is_cancelled = error->status() == DYNAMO_ERROR_CANCELLED;
        (is_cancelled ? std::cout : std::cerr)
            << number << ": " << (is_cancelled ? "(cancelled)" : error->what()) << std::endl;
        program.result = is_cancelled ? 130 : 1;
    }
    --program.left;
}

int main(int argc, char **argv) try {
    if (argc < 3) {
        std::cerr << "usage: coroutine configuration question...\n";
        return 1;
    }
    const dynamo_llm::Runtime runtime(argv[1]);
    std::signal(SIGINT, interrupt);
    Program program;
    program.left = argc - 2;
    for (int i = 2; i < argc; ++i) {
        answer(program, i - 1, runtime.send(dynamo_llm::Chat(argv[i])));
    }
    while (program.left > 0) {
        program.loop.turn(std::chrono::milliseconds(100));
        if (interrupted) {
            program.stop.request_stop();
        }
    }
    return program.result;
} catch (const dynamo_llm::Error &error) {
    std::cerr << "coroutine: " << error.what() << '\n';
    return 1;
}
