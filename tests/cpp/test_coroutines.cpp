// SPDX-License-Identifier: Apache-2.0
// Coroutines wait for responses without blocking a thread and resume on their executor; no response gets lost.
#include "support.hpp"

#if !defined(DYNAMO_LLM_HAS_COROUTINES)
int main() {
    std::fputs("this compiler has no coroutines\n", stderr);
    return 0;
}
#else
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using dynamo_llm::AsyncRequest;
using dynamo_llm::InlineExecutor;

namespace {

// A coroutine that starts at once; its Task owns the frame.
class Task {
  public:
    struct promise_type {
        struct End {
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<promise_type> c) const noexcept {
                c.promise().has_ended = true;
            }
            void await_resume() const noexcept {}
        };

        Task get_return_object() {
            return Task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_never initial_suspend() noexcept { return {}; }
        End final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::abort(); }

        std::atomic<bool> has_ended{false};
    };

    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    Task(Task &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    ~Task() {
        if (handle_) {
            handle_.destroy();
        }
    }
    void destroy() { std::exchange(handle_, nullptr).destroy(); }
    // Works whichever thread runs the coroutine.
    void wait_for_end() const { EVENTUALLY(handle_.promise().has_ended); }

  private:
    std::coroutine_handle<promise_type> handle_;
};

// An event loop: resumes posted coroutines in the thread that runs the loop.
class Loop {
  public:
    void operator()(std::coroutine_handle<> coroutine) {
        const std::lock_guard<std::mutex> lock(mutex_);
        ready_.push_back(coroutine);
        changed_.notify_one();
    }
    // Waits for one posted coroutine and resumes it.
    void step() {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return !ready_.empty(); });
        const std::coroutine_handle<> coroutine = ready_.front();
        ready_.pop_front();
        lock.unlock();
        coroutine.resume();
    }
    std::size_t posted() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return ready_.size();
    }
    void drop_all() {
        const std::lock_guard<std::mutex> lock(mutex_);
        ready_.clear();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::coroutine_handle<> > ready_;
};

struct Post {
    Loop *loop;
    void operator()(std::coroutine_handle<> coroutine) const { (*loop)(coroutine); }
};

struct Outcome {
    std::string text;
    std::int32_t status = DYNAMO_PENDING;
    std::size_t responses = 0;
    std::thread::id last_thread;
    std::atomic<bool> done{false};
};

template <class Executor>
Task read(AsyncRequest<Executor> &request, Outcome &outcome) {
    while (true) {
        Received received = co_await request.next();
        CHECK(!received.is_pending() && bool(received) == bool(received.response));
        outcome.last_thread = std::this_thread::get_id();
        if (received.has_ended()) {
            outcome.status = received.status;
            break;
        }
        outcome.text += received.response.text();
        ++outcome.responses;
    }
    outcome.done = true;
}

// The same, but owns its request.
template <class Executor>
Task read_own(Request sent_request, Executor executor, Outcome &outcome) {
    AsyncRequest request(std::move(sent_request), executor);
    while (Received received = co_await request.next()) {
        outcome.text += received.response.text();
    }
    outcome.status = request.request().status();
    outcome.done = true;
}

void a_coroutine_goes_on_in_the_programs_thread() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome outcome;
    AsyncRequest request(
        MUST(runtime.send(script("[{'delay_ms': 5}, {'text': 'a'}, {'delay_ms': 5},"
                                 " {'text': 'b'}, {'delay_ms': 5}]"))),
        Post{&loop});
    const Task task = read(request, outcome);
    while (!outcome.done) {
        loop.step();
        CHECK(outcome.last_thread == std::this_thread::get_id());
    }
    CHECK(outcome.text == "ab");
    CHECK_STATUS(outcome.status, DYNAMO_END);
    CHECK(loop.posted() == 0);
}

void one_that_resumes_at_once() {
    const Runtime runtime = start_cpp();
    Outcome outcome;
    const Task task = read_own(MUST(runtime.send(Completion("a b c"))), InlineExecutor(), outcome);
    task.wait_for_end();
    CHECK(outcome.text == "a b c");
    CHECK_STATUS(outcome.status, DYNAMO_END);
}

void a_cancelled_request_resumes_its_coroutine() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome outcome;
    AsyncRequest request(MUST(runtime.send(script("[{'stall': true}]"))), Post{&loop});
    const Task task = read(request, outcome);
    CHECK(!outcome.done && loop.posted() == 0);
    std::thread other([&] { request.request().cancel(); });
    loop.step();
    other.join();
    CHECK(outcome.done);
    CHECK_STATUS(outcome.status, DYNAMO_ERROR_CANCELLED);
    CHECK_STATUS(request.request().error()->status(), DYNAMO_ERROR_CANCELLED);
}

void a_destroyed_request_resumes_its_coroutine() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome outcome;
    auto request = std::make_unique<AsyncRequest<Post> >(
        MUST(runtime.send(script("[{'stall': true}]"))), Post{&loop});
    // Not read(), which would use the destroyed object again.
    const auto once = [](AsyncRequest<Post> &of, Outcome &to) -> Task {
        to.status = (co_await of.next()).status;
        to.done = true;
    };
    const Task task = once(*request, outcome);
    request.reset();
    loop.step();
    CHECK(outcome.done);
    CHECK_STATUS(outcome.status, DYNAMO_ERROR_CANCELLED);
}

void a_moved_request_resumes_its_coroutine() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome outcome;
    AsyncRequest request(MUST(runtime.send(script("[{'stall': true}]"))), Post{&loop});
    AsyncRequest other(MUST(runtime.send(script("[{'stall': true}]"))), Post{&loop});
    const Request &moved_to = other.request();
    dynamo_request_t *const replaced = other.request().get();
    const auto once = [](AsyncRequest<Post> &of, Outcome &to) -> Task {
        to.status = (co_await of.next()).status;
        to.done = true;
    };
    const Task task = once(request, outcome);
    other = std::move(request);
    CHECK_STATUS(dynamo_request_status(replaced), DYNAMO_ERROR_INVALID_HANDLE);
    moved_to.cancel();
    loop.step();
    CHECK_STATUS(outcome.status, DYNAMO_ERROR_CANCELLED);
}

// The executor must not be called for a destroyed coroutine, and the next coroutine misses nothing.
void a_waiting_coroutine_may_be_destroyed() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome first;
    Outcome second;
    AsyncRequest request(
        MUST(runtime.send(script("[{'delay_ms': 20}, {'text': 'a'}, {'text': 'b'}]"))),
        Post{&loop});
    for (int i = 0; i < 3; ++i) {
        Task gone = read(request, first);
        gone.destroy();
    }
    const Task task = read(request, second);
    while (!second.done) {
        loop.step();
    }
    CHECK(first.responses == 0 && second.text == "ab" && loop.posted() == 0);
}

// A coroutine was posted to the executor, but not resumed: its response goes to the next coroutine.
void a_woken_coroutine_may_be_destroyed() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome first;
    Outcome second;
    AsyncRequest request(
        MUST(runtime.send(script("[{'delay_ms': 5}, {'text': 'a'}, {'stall': true}]"))),
        Post{&loop});
    Task gone = read(request, first);
    EVENTUALLY(loop.posted() == 1);
    loop.drop_all();
    gone.destroy();
    const Task task = read(request, second);
    CHECK(first.responses == 0 && second.text == "a");
    request.request().cancel();
    loop.step();
    CHECK_STATUS(second.status, DYNAMO_ERROR_CANCELLED);
}

void a_second_one_is_refused() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    Outcome first;
    Outcome second;
    AsyncRequest request(MUST(runtime.send(script("[{'delay_ms': 20}, {'text': 'a'}]"))),
                         Post{&loop});
    const Task task = read(request, first);
    const Task other = read(request, second);
    CHECK(second.done && !first.done);
    CHECK_STATUS(second.status, DYNAMO_ERROR_INVALID_STATE);
    EVENTUALLY(loop.posted() == 1);
    Outcome third;
    const Task another = read(request, third);  // rejected between post and resume, too
    CHECK_STATUS(third.status, DYNAMO_ERROR_INVALID_STATE);
    while (!first.done) {
        loop.step();
    }
    CHECK(first.text == "a");
    CHECK_STATUS(first.status, DYNAMO_END);
}

void a_request_that_was_not_sent() {
    Loop loop;
    Outcome outcome;
    AsyncRequest request(MUST(Request::create(Completion("a"))), Post{&loop});
    const Task task = read(request, outcome);
    CHECK(outcome.done);
    CHECK_STATUS(outcome.status, DYNAMO_ERROR_INVALID_STATE);
}

void the_executor_is_given_up() {
    const Runtime runtime = start_cpp("scripted");
    Loop loop;
    const auto alive = std::make_shared<int>(1);
    {
        const auto executor = [loop = &loop, alive](std::coroutine_handle<> c) { (*loop)(c); };
        Outcome outcome;
        AsyncRequest request(MUST(runtime.send(script("[{'stall': true}]"))), executor);
        Task task = read(request, outcome);
        task.destroy();
        CHECK(alive.use_count() > 1);
    }
    EVENTUALLY(alive.use_count() == 1);
    CHECK(loop.posted() == 0);
}

void many_on_a_few_threads() {
    const Runtime runtime = MUST(Runtime::create(Config().engine("echo").stream(2)));
    const std::size_t count = static_cast<std::size_t>(1000 * scale());
    Loop loop;
    std::atomic<bool> stop{false};
    const auto stop_one = [](Loop *in, std::atomic<bool> &flag) -> Task {
        struct Hop {
            Loop *loop;
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> c) const { (*loop)(c); }
            void await_resume() const noexcept {}
        };
        co_await Hop{in};
        flag = true;
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
            while (!stop) {
                loop.step();
            }
        });
    }
    std::vector<Outcome> outcomes(count);
    std::vector<Task> tasks;
    for (Outcome &outcome : outcomes) {
        tasks.push_back(
            read_own(MUST(runtime.send(Completion("a b c d e f g"))), Post{&loop}, outcome));
    }
    for (const Task &task : tasks) {
        task.wait_for_end();
    }
    for (const Outcome &outcome : outcomes) {
        CHECK(outcome.text == "a b c d e f g");
        CHECK_STATUS(outcome.status, DYNAMO_END);
    }
    std::vector<Task> last;
    for (std::size_t i = 0; i < threads.size(); ++i) {
        last.push_back(stop_one(&loop, stop));  // each wakes one waiting thread
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
}

// Waiting coroutines are destroyed at random moments, while their requests are being cancelled.
void destroyed_at_any_moment() {
    const Runtime runtime = start_cpp("scripted");
    const int rounds = static_cast<int>(300 * scale());
    for (int i = 0; i < rounds; ++i) {
        std::atomic<bool> is_gone{false};
        std::atomic<int> calls{0};
        const auto executor = [&](std::coroutine_handle<>) {
            CHECK(!is_gone);  // destroy() waits for a running executor call
            ++calls;
        };
        Outcome outcome;
        AsyncRequest request(MUST(runtime.send(script("[{'stall': true}]"))), executor);
        Task task = read(request, outcome);
        std::thread other([&] { request.request().cancel(); });
        if (i % 2 == 0) {
            other.join();
        }
        task.destroy();
        is_gone = true;
        if (i % 2 != 0) {
            other.join();
        }
        CHECK(calls <= 1 && !outcome.done);
    }
}

}  // namespace

int main() {
    BEGIN();
    RUN(a_coroutine_goes_on_in_the_programs_thread);
    RUN(one_that_resumes_at_once);
    RUN(a_cancelled_request_resumes_its_coroutine);
    RUN(a_destroyed_request_resumes_its_coroutine);
    RUN(a_moved_request_resumes_its_coroutine);
    RUN(a_waiting_coroutine_may_be_destroyed);
    RUN(a_woken_coroutine_may_be_destroyed);
    RUN(a_second_one_is_refused);
    RUN(a_request_that_was_not_sent);
    RUN(the_executor_is_given_up);
    RUN(many_on_a_few_threads);
    RUN(destroyed_at_any_moment);
    return 0;
}
#endif
