// A custom engine in C++ answers 64 requests at once, without Python in the process.
//
//     gcc -c ../babble.c $(dynamo-llm config --cflags)
//     g++ -std=c++17 -o main main.cpp babble.o -pthread $(dynamo-llm config --cflags --libs)
//     DYNAMO_LLM_PYTHON=none ./main
//
// Prints a few answers and the sizes of the engine's steps. Callbacks receive the answers.
#include <array>
#include <condition_variable>
#include <dynamo_llm.hpp>
#include <iostream>
#include <mutex>
#include <string>
#include <vector>

#include "engine.hpp"

constexpr int request_count = 64;

// The answers so far. The library's callback thread adds to them; main() waits for the last one.
class Answers {
  public:
    void add(std::size_t number, dynamo_llm::Received received) {
        const std::lock_guard lock(mutex_);
        if (received) {
            texts_[number] += received.response.text();
            return;
        }
        failed_ += received.status == DYNAMO_END ? 0 : 1;
        if (--left_ == 0) {
            changed_.notify_all();
        }
    }
    // Waits for all answers and returns the number of failed ones.
    int wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return left_ == 0; });
        return failed_;
    }
    const std::string &operator[](std::size_t number) const { return texts_[number]; }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::array<std::string, request_count> texts_;
    int left_ = request_count;
    int failed_ = 0;
};

static int run() {
    Report report;
    const dynamo_engine_t engine = callbacks_of<StepEngine, Report>(DYNAMO_ENGINE_TEXT);
    if (dynamo_engine_register("babble", &engine, &report, nullptr) != DYNAMO_OK) {
        throw dynamo_llm::Error::last();
    }
    Answers answers;
    const dynamo_llm::Runtime runtime(
        dynamo_llm::Config().engine("babble").option("step_us", 1000));
    std::vector<dynamo_llm::Request> requests;
    for (std::size_t i = 0; i < request_count; ++i) {
        const std::string prompt = "Question " + std::to_string(i + 1);
        requests.emplace_back(dynamo_llm::Completion(prompt).max_tokens(41 + i));
        requests[i].set_callback(
            [&answers, i](dynamo_llm::Received received) { answers.add(i, std::move(received)); });
        runtime.send(requests[i]);
    }
    const int failed = answers.wait();
    for (std::size_t i = 0; i < 3; ++i) {
        std::cout << i + 1 << ":" << answers[i] << "\n";
    }
    runtime.shutdown(dynamo_llm::forever);  // stops the engine, which completes its report
    unsigned long tokens = 0;
    for (std::size_t size = 1; size < report.of_size.size(); ++size) {
        tokens += size * report.of_size[size];
    }
    std::cout << request_count - failed << " answers, " << tokens << " tokens in " << report.steps
              << " steps, " << report.of_size.size() - 1 << " in the largest\n";
    return failed == 0 ? 0 : 1;
}

int main() {
    try {
        return run();
    } catch (const std::exception &error) {
        std::cerr << "main: " << error.what() << "\n";
        return 1;
    }
}
