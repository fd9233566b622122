// SPDX-License-Identifier: Apache-2.0
// Runtimes that are created without waiting: a future, a coroutine, progress, cancel.
#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "dynamo_llm/engine.h"
#include "support.hpp"

using dynamo_llm::Creation;
using dynamo_llm::Progress;

namespace {

std::atomic<int> starting{0};
std::atomic<int> noticed{0};
std::atomic<int> stopped{0};
std::atomic<bool> may_end{false};

// An engine that starts until a test lets it go.
void register_slow() {
    dynamo_engine_t engine{};
    engine.struct_size = sizeof engine;
    engine.start = [](void *, const char *, void **) -> std::int32_t {
        dynamo_progress_t progress{};
        progress.struct_size = sizeof progress;
        progress.phase = "weights";
        progress.bytes_done = 1;
        progress.bytes_total = 4;
        std::int32_t status = dynamo_engine_progress(&progress);
        ++starting;
        while (status == DYNAMO_OK && !may_end) {
            std::this_thread::sleep_for(milliseconds(1));
            status = dynamo_engine_progress(nullptr);
        }
        noticed += status == DYNAMO_ERROR_CANCELLED;
        return status;
    };
    engine.generate = [](void *, dynamo_stream_t *stream, const char *, const char *) {
        return dynamo_stream_finish(stream, nullptr, nullptr);
    };
    engine.cancel = [](void *, dynamo_stream_t *) {};
    engine.stop = [](void *) { ++stopped; };
    CHECK_STATUS(dynamo_engine_register("slow", &engine, nullptr, nullptr), DYNAMO_OK);
}

void reset() {
    starting = noticed = stopped = 0;
    may_end = false;
}

const char *const slow = R"({"engine": "slow"})";

void a_thread_waits_for_the_runtime() {
    reset();
    std::mutex mutex;
    std::vector<Progress> seen;
    const auto on_progress = [&](const Progress &progress) {
        const std::lock_guard<std::mutex> lock(mutex);
        seen.push_back(progress);
    };
    const Creation creation = MUST(Runtime::create_async(slow, on_progress));
    CHECK(creation && creation.get() != nullptr);
    EVENTUALLY(starting == 1);
    CHECK(!MUST(creation.wait_for(milliseconds(5))));
    may_end = true;
    CHECK(MUST(creation.wait_for(dynamo_llm::forever)));
    const Runtime runtime = MUST(creation.wait());
    CHECK(runtime);
    CHECK(seen.size() == 2 && seen[0].phase == "engine" && !seen[0].fraction);
    CHECK(seen[1].phase == "weights" && seen[1].model.empty() && seen[1].bytes_done == 1 &&
          seen[1].bytes_total == 4 && seen[1].fraction == 0.25);
    const Error again = error_of([&] { return creation.wait(); });
    CHECK_STATUS(again.status(), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(again.what(), "returned before");
}

void errors_are_those_of_create() {
    const Error at_once = error_of([] { return Runtime::create_async(R"({"engin": "echo"})"); });
    CHECK_STATUS(at_once.status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_CONTAINS(at_once.what(), "engine");
    CHECK_STATUS(error_of([] { return Runtime::create_async(std::string("{}\0", 3)); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    const Creation creation = MUST(Runtime::create_async(Config().engine("ecko")));
    const Error later = error_of([&] { return creation.wait(); });
    CHECK_STATUS(later.status(),
                 error_of([] { return Runtime::create(Config().engine("ecko")); }).status());
    CHECK_CONTAINS(later.what(), "echo");
    CHECK_CONTAINS(later.json().c_str(), later.status_name());
    const Creation none(nullptr);
    CHECK(!none && MUST(none.wait_for(milliseconds(0))));
    none.cancel();
    CHECK_STATUS(error_of([&] { return none.wait(); }).status(), DYNAMO_ERROR_INVALID_STATE);
}

void it_is_cancelled() {
    reset();
    const Creation creation = MUST(Runtime::create_async(slow));
    EVENTUALLY(starting == 1);
    creation.cancel();
    CHECK_STATUS(error_of([&] { return creation.wait(); }).status(), DYNAMO_ERROR_CANCELLED);
    EVENTUALLY(noticed == 1);
    {
        const Creation destroyed = MUST(Runtime::create_async(slow));
        EVENTUALLY(starting == 2);
    }
    EVENTUALLY(noticed == 2);
    CHECK(stopped == 0);
}

void a_callback_does_not_wait_for_it() {
    reset();
    std::atomic<const Creation *> known{nullptr};
    std::atomic<int> refused{0};
    const auto on_progress = [&](const Progress &) {
        while (known == nullptr) {
            std::this_thread::sleep_for(milliseconds(1));
        }
        const Creation &creation = *known;
        CHECK(!MUST(creation.wait_for(milliseconds(0))));
        const Error limited = error_of([&] { return creation.wait_for(milliseconds(100000)); });
        CHECK_STATUS(limited.status(), DYNAMO_ERROR_INVALID_STATE);
        const Error unlimited = error_of([&] { return creation.wait(); });
        CHECK_STATUS(unlimited.status(), DYNAMO_ERROR_INVALID_STATE);
        CHECK_CONTAINS(unlimited.what(), "in a callback of the library");
        ++refused;
    };
    const Creation creation = MUST(Runtime::create_async(slow, on_progress));
    known = &creation;
    EVENTUALLY(refused > 0);
    may_end = true;
    CHECK(MUST(creation.wait()));
}

// Nobody takes the runtime.
void it_is_dropped() {
    reset();
    may_end = true;
    {
        const Creation creation = MUST(Runtime::create_async(slow));
        CHECK(MUST(creation.wait_for(dynamo_llm::forever)));
    }
    EVENTUALLY(stopped == 1);
}

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
void a_function_that_throws_cancels_it() {
    reset();
    const auto on_progress = [](const Progress &progress) {
        if (progress.phase == "weights") {  // the engine starts, so that it can notice
            throw std::runtime_error("no");
        }
    };
    const Creation creation = Runtime::create_async(slow, on_progress);
    CHECK_STATUS(error_of([&] { return creation.wait(); }).status(), DYNAMO_ERROR_CANCELLED);
    EVENTUALLY(noticed == 1);
}
#endif

#if defined(DYNAMO_LLM_HAS_COROUTINES) && !defined(DYNAMO_LLM_NO_EXCEPTIONS)
using dynamo_llm::InlineExecutor;

// A coroutine that starts at once and runs to its end; destroy() ends it earlier.
struct Task {
    struct promise_type {
        Task get_return_object() {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::abort(); }
    };
    std::coroutine_handle<promise_type> handle;
};

struct Outcome {
    std::optional<Runtime> runtime;
    std::int32_t status = DYNAMO_PENDING;
    std::atomic<int> ends{0};
};

Task open(const Creation &creation, Outcome &outcome) {
    try {
        outcome.runtime.emplace(co_await creation.resume_on(InlineExecutor{}));
        outcome.status = DYNAMO_OK;
    } catch (const Error &error) {
        outcome.status = error.status();
    }
    ++outcome.ends;
}

void a_coroutine_waits_for_it() {
    reset();
    Outcome outcome;
    {
        const Creation creation = Runtime::create_async(slow);
        open(creation, outcome);
        EVENTUALLY(starting == 1);
        CHECK(outcome.ends == 0);
        may_end = true;
        EVENTUALLY(outcome.ends == 1);
        CHECK(outcome.status == DYNAMO_OK && *outcome.runtime);

        Outcome again;
        open(creation, again);  // does not wait
        CHECK_STATUS(again.status, DYNAMO_ERROR_INVALID_STATE);
    }
    CHECK(stopped == 0);
    outcome.runtime.reset();
    CHECK(stopped == 1);
}

void a_coroutine_whose_creation_ends() {
    reset();
    Outcome cancelled;
    Creation creation = Runtime::create_async(slow);
    open(creation, cancelled);
    creation.cancel();
    EVENTUALLY(cancelled.ends == 1);
    CHECK_STATUS(cancelled.status, DYNAMO_ERROR_CANCELLED);

    Outcome destroyed;
    creation = Runtime::create_async(slow);
    open(creation, destroyed);
    creation = Creation(nullptr);
    EVENTUALLY(destroyed.ends == 1);
    CHECK_STATUS(destroyed.status, DYNAMO_ERROR_CANCELLED);

    Outcome never;
    creation = Runtime::create_async(slow);
    open(creation, never).handle.destroy();  // nothing resumes it
    may_end = true;
    CHECK(MUST(creation.wait_for(dynamo_llm::forever)));
    CHECK(never.ends == 0);
    CHECK(creation.wait());  // and the runtime is not lost
}
#endif

}  // namespace

int main() {
    BEGIN();
    register_slow();
    RUN(a_thread_waits_for_the_runtime);
    RUN(errors_are_those_of_create);
    RUN(it_is_cancelled);
    RUN(a_callback_does_not_wait_for_it);
    RUN(it_is_dropped);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    RUN(a_function_that_throws_cancels_it);
#endif
#if defined(DYNAMO_LLM_HAS_COROUTINES) && !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    RUN(a_coroutine_waits_for_it);
    RUN(a_coroutine_whose_creation_ends);
#endif
    return 0;
}
