// SPDX-License-Identifier: Apache-2.0
// Compiled several times into one program, each time with different options. MIXED_NAME is the name of this copy.
#include "mixed.hpp"

#include <dynamo_llm/cluster.hpp>
#include <string>
#include <typeinfo>
#include <vector>

#if defined(DYNAMO_LLM_HAS_COROUTINES)
#include <atomic>
#include <thread>
#endif

#define EXPECT(condition)    \
    do {                     \
        if (!(condition)) {  \
            return __LINE__; \
        }                    \
    } while (0)

namespace {

using namespace dynamo_llm;

// Returns the status of a call, whether the call throws or returns it.
#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
template <class Function>
std::int32_t status_of(Function &&function) {
    const auto result = function();
    return result ? static_cast<std::int32_t>(DYNAMO_OK) : result.error().status();
}
template <class T>
T must(Result<T> result) {
    return std::move(result).value();
}
#else
template <class Function>
std::int32_t status_of(Function &&function) {
    try {
        (void)function();
        return DYNAMO_OK;
    } catch (const Error &error) {
        return error.status();
    }
}
template <class T>
T must(T value) {
    return value;
}
#endif

Completion script(const char *text) {
    return Completion(std::string(text));
}

int use_values() {
    const Json json = Json::object(
        {{"a", Json::array({1, 2.5, "x", nullptr, true})}, {"b", std::vector<std::string>{"c"}}});
    EXPECT(json.text() == "{\"a\": [1, 2.5, \"x\", null, true], \"b\": [\"c\"]}");
    EXPECT(Config().engine("echo").option("repeat", 2).stream(8).json() ==
           "{\"engine\": \"echo\", \"stream\": {\"capacity\": 8, \"when_full\": \"block\"}, "
           "\"options\": {\"repeat\": 2}}");
    EXPECT(Chat("a").system("b").stop({"x"}).n(2).json().size() > 20);
    EXPECT(Embedding({"a", "b"}).json() == "{\"input\": [\"a\", \"b\"]}");
    EXPECT(TokenIds().empty() && !Usage().prompt_tokens && !Timing().total);
    Result<int> value(3);
    EXPECT(value && *value == 3);
    EXPECT(!Result<void>(Error(-1, "m", "{}")) && Result<void>());
    return 0;
}

int use_runtime(dynamo_runtime_t *scripted) {
    Runtime runtime(scripted);
    struct Borrowed {
        Runtime &runtime;
        ~Borrowed() { (void)runtime.release(); }
    } const borrowed{runtime};
    {
        const Request request =
            must(runtime.send(script("[{\"text\": \"a\"}, {\"text\": \"b\"}]")));
        std::string text;
        for (const Response &response : request) {
            text += response.text();
            EXPECT(response.index() == 0 && response.item_count() == 0);
        }
        EXPECT(text == "ab" && request.status() == DYNAMO_END && !request.error());
        EXPECT(request.timing().total.has_value() && !request.id().empty());
    }
    const char *const failing = "[{\"error\": {\"status\": \"UNAVAILABLE\"}}]";
    EXPECT(status_of([&] { return must(runtime.send(script(failing))).recv(); }) ==
           DYNAMO_ERROR_UNAVAILABLE);
    EXPECT(status_of([&] {
               return runtime.send(script("[{\"refuse\": {\"status\": \"OVERLOADED\"}}]"));
           }) == DYNAMO_ERROR_OVERLOADED);
    EXPECT(status_of([&] { return runtime.send(script("{")); }) == DYNAMO_ERROR_INVALID_REQUEST);
    EXPECT(status_of([&] { return Runtime::create("{\"engine\": 3}"); }) ==
           DYNAMO_ERROR_INVALID_CONFIG);
    EXPECT(must(runtime.statistics()).front() == '{' && must(runtime.metrics()).front() == '#');
    {
        const Queue queue = must(Queue::create());
        Request queued = must(Request::create(script("[{\"text\": \"q\"}]")));
        EXPECT(status_of([&] { return queued.set_queue(queue, &runtime); }) == DYNAMO_OK);
        EXPECT(status_of([&] { return runtime.send(queued); }) == DYNAMO_OK);
        std::string text;
        Event event = queue.next();
        // The finish reason may arrive in a separate response.
        for (; event; event = queue.next()) {
            EXPECT(event.user == &runtime);
            text += event.response.text();
        }
        EXPECT(text == "q" && event.has_ended() && event.status == DYNAMO_END);
    }
    return 0;
}

int use_cluster() {
    const Worker worker(nullptr);
    WorkerLoad load;
    load.kv_used_blocks = 3;
    // If a create failed in this thread earlier, a call on NULL repeats its error, so the status is not fixed.
    EXPECT(status_of([&] { return worker.publish_load(load); }) < 0);
    EXPECT(status_of([&] { return worker.info(); }) < 0);
    EXPECT(status_of([&] { return Worker::create("[]"); }) == DYNAMO_ERROR_INVALID_CONFIG);
    KvStored stored;
    stored.token_ids = {1, 2};
    stored.block_hashes = {7};
    stored.parent_hash = 9;
    stored.lora_name = "adapter";
    EXPECT(stored.c().token_count == 2 && stored.c().parent_hash == 9 &&
           std::string(stored.c().lora_name) == "adapter");
    const KvPublisher publisher(nullptr);
    EXPECT(status_of([&] { return publisher.stored(stored); }) < 0);
    EXPECT(status_of(
               [&] { return publisher.publish_many({stored, KvRemoved{{1}}, KvCleared()}); }) < 0);
    EXPECT(status_of([&] { return publisher.statistics(); }) < 0);
    EXPECT(status_of([&] { return publisher.hashes({nullptr, 0}, "l", "s"); }) < 0);
    EXPECT(status_of([&] { return KvPublisher::create("[]"); }) == DYNAMO_ERROR_INVALID_CONFIG);
    RouteOptions options;
    options.worker_ids = {1, 2};
    options.request_id = "r";
    options.priority_jump = 2.5;
    EXPECT(options.c().worker_count == 2 && options.c().priority_jump == 2.5);
    const Router router(nullptr);
    EXPECT(status_of([&] { return router.select({nullptr, 0}, options); }) < 0);
    EXPECT(status_of([&] { return router.select_body("{}", options); }) < 0);
    EXPECT(status_of([&] { return router.free("r"); }) < 0);
    EXPECT(status_of([&] { return Router::create("[]"); }) == DYNAMO_ERROR_INVALID_CONFIG);
    return 0;
}

int use_logs() {
    EXPECT(status_of([] { return set_log(DYNAMO_LOG_OFF); }) == DYNAMO_OK);
    return 0;
}

#if defined(DYNAMO_LLM_HAS_COROUTINES)
struct Task {
    struct promise_type {
        Task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept {}
    };
};

Task read(Request sent, std::string &text, std::atomic<bool> &is_done) {
    AsyncRequest request(std::move(sent), InlineExecutor());
    while (auto received = co_await request.next()) {
        text += received.response.text();
    }
    is_done = true;
}

int use_coroutines(dynamo_runtime_t *scripted) {
    Runtime runtime(scripted);
    Request request =
        must(runtime.send(script("[{\"text\": \"c\"}, {\"delay_ms\": 1}, {\"text\": \"d\"}]")));
    (void)runtime.release();
    std::string text;
    std::atomic<bool> is_done{false};
    read(std::move(request), text, is_done);
    while (!is_done) {
        std::this_thread::yield();
    }
    EXPECT(text == "cd");
    return 0;
}
#else
int use_coroutines(dynamo_runtime_t *) {
    return 0;
}
#endif

int use_everything(dynamo_runtime_t *scripted) {
    for (const int line : {use_values(), use_runtime(scripted), use_cluster(), use_logs(),
                           use_coroutines(scripted)}) {
        if (line != 0) {
            return line;
        }
    }
    return 0;
}

bool knows_its_errors() {
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    try {
        (void)Router::create("[]");
        return false;
    } catch (const std::exception &error) {
#if defined(__cpp_rtti)
        // As test frameworks do: finds the class of an exception through its vtable.
        return dynamic_cast<const Error *>(&error) != nullptr && typeid(error) == typeid(Error);
#else
        return error.what()[0] != '\0';
#endif
    }
#else
    return true;
#endif
}

}  // namespace

extern const MixedFile MIXED_NAME;
const MixedFile MIXED_NAME = {MIXED_TEXT, use_everything, knows_its_errors};
