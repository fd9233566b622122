// SPDX-License-Identifier: Apache-2.0
// Run-time cost: the wrapper allocates nothing between calls of the C interface. The linker redirects these calls and
// every allocation to the functions in this file.
#include <cstdlib>

#include "support.hpp"

static thread_local bool is_in_library = false;
static thread_local bool is_counting = false;
static thread_local long allocations = 0;

extern "C" void *__libc_malloc(std::size_t size);

// operator new calls it, too.
extern "C" void *malloc(std::size_t size) {
    allocations += is_counting && !is_in_library ? 1 : 0;
    return __libc_malloc(size);
}

// The linker option --wrap redirects the program's calls of NAME to this function.
#define PASS(result, name, parameters, arguments)               \
    extern "C" result __real_##name parameters;                 \
    extern "C" result __wrap_##name parameters;                 \
    extern "C" result __wrap_##name parameters {                \
        const bool before = std::exchange(is_in_library, true); \
        struct Restore {                                        \
            bool value;                                         \
            ~Restore() { is_in_library = value; }               \
        } const restore{before};                                \
        return __real_##name arguments;                         \
    }
PASS(int32_t, dynamo_request_next,
     (dynamo_request_t * request, int64_t ms, dynamo_response_t **out), (request, ms, out))
PASS(dynamo_response_t *, dynamo_request_recv, (dynamo_request_t * request), (request))
PASS(const char *, dynamo_response_text, (const dynamo_response_t *response, size_t *length),
     (response, length))
PASS(const uint32_t *, dynamo_response_token_ids,
     (const dynamo_response_t *response, size_t *count), (response, count))
PASS(const char *, dynamo_response_finish_reason, (const dynamo_response_t *response), (response))
PASS(int32_t, dynamo_response_usage, (const dynamo_response_t *response, dynamo_usage_t *usage),
     (response, usage))
PASS(uint32_t, dynamo_response_index, (const dynamo_response_t *response), (response))
PASS(int32_t, dynamo_request_notify,
     (dynamo_request_t * request, dynamo_ready_callback_t callback, void *user),
     (request, callback, user))
PASS(void, dynamo_free, (void *pointer), (pointer))

namespace {

struct Counting {
    Counting() {
        allocations = 0;
        is_counting = true;
    }
    ~Counting() { is_counting = false; }
};

std::size_t look_at(const Response &response) {
    return response.text().size() + response.token_ids().size() + response.finish_reason().size() +
           response.index() + (response.usage() ? 1 : 0);
}

// One token per response, for many responses.
Runtime start_narrow() {
    return MUST(Runtime::create(Config().engine("echo").option("repeat", 50).stream(1)));
}

void the_counter_counts() {
    const Counting counting;
    std::size_t seen = 0;
    const Runtime runtime = start_narrow();
    const Request request = MUST(runtime.send(Completion("a b c d ")));
    allocations = 0;
    while (const Received received = request.next()) {
        const std::string text(100, received.response.index() == 0 ? 'x' : 'y');
        seen += text.size();
    }
    CHECK(allocations >= 200 && seen >= 20000);
}

template <class Loop>
void check_free_of_charge(Loop loop) {
    const Runtime runtime = start_narrow();
    const Request request = MUST(runtime.send(Completion("a b c d ")));
    std::size_t responses = 0;
    std::size_t seen = 0;
    {
        const Counting counting;
        loop(request, [&](const Response &response) {
            ++responses;
            seen += look_at(response);
        });
        CHECK(allocations == 0);
    }
    CHECK(responses >= 200 && seen > responses);
}

void receiving_allocates_nothing() {
    check_free_of_charge([](const Request &request, auto each) {
        while (const Received received = request.next()) {
            each(received.response);
        }
    });
    check_free_of_charge([](const Request &request, auto each) {
        for (const Response &response : request) {
            each(response);
        }
    });
    check_free_of_charge([](const Request &request, auto each) {
        for (Received received = request.poll(); !received.has_ended();
             received = request.next(milliseconds(1))) {
            if (received) {
                each(received.response);
            }
        }
    });
    check_free_of_charge([](const Request &request, auto each) {
        while (auto response = MUST(request.recv())) {
            each(response);
        }
    });
}

#if defined(DYNAMO_LLM_HAS_COROUTINES)
struct Detached {
    struct promise_type {
        Detached get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::abort(); }
    };
};

counter charged = {0};

struct Charge {
    Charge() {
        allocations = 0;
        is_counting = true;
    }
    ~Charge() {
        is_counting = false;
        add(&charged, allocations);
    }
};

// Counts only the allocations of co_await: the library's thread, which runs the coroutine, has allocations of its own.
struct Counted {
    bool await_ready() noexcept {
        const Charge charge;
        return next.await_ready();
    }
    bool await_suspend(std::coroutine_handle<> coroutine) noexcept {
        const Charge charge;
        return next.await_suspend(coroutine);
    }
    Received await_resume() noexcept {
        const Charge charge;
        return next.await_resume();
    }

    dynamo_llm::AsyncRequest<dynamo_llm::InlineExecutor>::Next next;
};

Detached read(dynamo_llm::AsyncRequest<dynamo_llm::InlineExecutor> &request, counter &responses,
              counter &ended) {
    while (const Received received = co_await Counted{request.next()}) {
        add(&responses, 1);
    }
    add(&ended, 1);
}

void a_step_of_a_coroutine_allocates_nothing() {
    const Runtime runtime = start_narrow();
    dynamo_llm::AsyncRequest request(MUST(runtime.send(Completion("a b c d "))),
                                     dynamo_llm::InlineExecutor());
    counter responses = {0};
    counter ended = {0};
    read(request, responses, ended);
    EVENTUALLY(get(&ended) == 1);
    CHECK(get(&responses) >= 200 && get(&charged) == 0);
}
#endif

}  // namespace

int main() {
    BEGIN();
    RUN(the_counter_counts);
    RUN(receiving_allocates_nothing);
#if defined(DYNAMO_LLM_HAS_COROUTINES)
    RUN(a_step_of_a_coroutine_allocates_nothing);
#endif
    return 0;
}
