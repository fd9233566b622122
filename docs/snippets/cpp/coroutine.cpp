// g++ -std=c++20 -o coroutine coroutine.cpp $(dynamo-llm config --cflags --libs)
#include <condition_variable>
#include <dynamo_llm.hpp>
#include <iostream>
#include <queue>

// begin loop
// The program's own loop: coroutines continue in the thread that calls run().
class Loop {
  public:
    void post(std::coroutine_handle<> coroutine) {
        const std::lock_guard lock(mutex_);
        ready_.push(coroutine);
        posted_.notify_one();
    }
    template <class Done>
    void run_until(Done done) {
        while (!done()) {
            std::unique_lock lock(mutex_);
            posted_.wait(lock, [&] { return !ready_.empty(); });
            const auto coroutine = ready_.front();
            ready_.pop();
            lock.unlock();
            coroutine.resume();
        }
    }

  private:
    std::mutex mutex_;
    std::condition_variable posted_;
    std::queue<std::coroutine_handle<>> ready_;
};

// The smallest coroutine type: it starts at once, and its result is not awaited.
struct Task {
    struct promise_type {
        Task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};
// end loop

// begin
Task print(dynamo_llm::Request sent, Loop &loop, bool &is_done) {
    dynamo_llm::AsyncRequest request(std::move(sent), [&loop](auto next) { loop.post(next); });
    while (auto received = co_await request.next()) {
        std::cout << received.response.text();
    }
    std::cout << '\n' << dynamo_status_name(request.request().status()) << '\n';
    is_done = true;
}

int main() {
    Loop loop;
    bool is_done = false;
    dynamo_llm::Runtime runtime(dynamo_llm::Config().engine("echo"));
    print(runtime.send(dynamo_llm::Chat("one two three")), loop, is_done);
    loop.run_until([&] { return is_done; });
}
// end
