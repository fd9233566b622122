// SPDX-License-Identifier: Apache-2.0
// Callbacks of the program and of engines that throw, or end their thread: the exception is logged and not propagated,
// a request that waits for the callback ends, and the library keeps working.
#include <pthread.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dynamo_llm/engine.h"
#include "support.hpp"

enum class What { standard, number, foreign_type, end_of_thread };

struct NotAnException {};

static const char *text_of(What what) {
    switch (what) {
        case What::standard:
            return "std::runtime_error: by the host";
        case What::number:
            return "an exception of the type int";
        default:
            return "an exception of the type NotAnException";
    }
}

// Where to throw, and what. Throws once each time it is armed.
static std::mutex mutex;
static std::string armed;
static What what;
static std::string records;

static void act(const char *here) {
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (armed != here) {
            return;
        }
        armed = "";
    }
    switch (what) {
        case What::standard:
            throw std::runtime_error("by the host");
        case What::number:
            throw 5;
        case What::foreign_type:
            throw NotAnException();
        case What::end_of_thread:
            pthread_exit(nullptr);
    }
}

static void arm(const char *where) {
    const std::lock_guard<std::mutex> lock(mutex);
    armed = where;
    records.clear();
}

static bool is_done() {
    const std::lock_guard<std::mutex> lock(mutex);
    return armed.empty();
}

static std::string logged() {
    const std::lock_guard<std::mutex> lock(mutex);
    return records;
}

static void on_record(void *, std::int32_t, const char *, const char *message) {
    {
        const std::lock_guard<std::mutex> lock(mutex);
        records.append(message) += '\n';
    }
    act("log");
}

// ------------------------------------------------------------------------- an engine that throws

static int engine_user;

static std::int32_t lab_start(void *, const char *, void **instance) {
    act("start");
    *instance = &engine_user;
    return DYNAMO_OK;
}

static std::int32_t lab_generate(void *, dynamo_stream_t *stream, const char *, const char *) {
    dynamo_chunk_t chunk{};
    chunk.struct_size = sizeof chunk;
    chunk.text = "word ";
    chunk.text_length = 5;
    chunk.token_count = 1;
    while (dynamo_stream_push(stream, &chunk) == DYNAMO_OK) {  // until the stream is full
    }
    act("generate");
    return DYNAMO_OK;
}

static void lab_cancel(void *, dynamo_stream_t *stream) {
    dynamo_stream_finish(stream, nullptr, nullptr);
    act("cancel");
}

static void lab_on_writable(void *, dynamo_stream_t *stream) {
    act("on_writable");
    dynamo_stream_finish(stream, nullptr, nullptr);
}

static void lab_stop(void *) {
    act("stop");
}

static const char *lab_describe(void *) {
    act("describe");
    return R"({"changes": true, "models": ["a"]})";
}

static void lab_metrics(void *, void (*write)(void *, const char *), void *context) {
    write(context, "lab 1");
    act("metrics");
}

static void lab_release(void *) {
    act("engine release");
}

static void register_lab() {
    dynamo_engine_t lab{};
    lab.struct_size = sizeof lab;
    lab.start = lab_start;
    lab.generate = lab_generate;
    lab.cancel = lab_cancel;
    lab.on_writable = lab_on_writable;
    lab.stop = lab_stop;
    lab.describe = lab_describe;
    lab.metrics = lab_metrics;
    CHECK_STATUS(dynamo_engine_register("lab", &lab, nullptr, lab_release), DYNAMO_OK);
}

static dynamo_runtime_t *start_lab() {
    return start("{'engine': 'lab', 'stream': {'capacity': 2}}");
}

// ------------------------------------------------------------------------- callbacks of the program

static void on_event(void *ends, dynamo_request_t *, dynamo_response_t *response,
                     std::int32_t status) {
    dynamo_free(response);
    if (status != DYNAMO_OK) {
        ++*static_cast<std::atomic<int> *>(ends);
    }
    act(status == DYNAMO_OK ? "callback" : "last callback");
}

static std::atomic<int> released;
static void on_release(void *) {
    ++released;
    act("release");
}

static void on_ready(void *count) {
    ++*static_cast<std::atomic<int> *>(count);
    act("ready");
}

// ------------------------------------------------------------------------- the tests

// Checks that the library's threads still work: callbacks, deadlines, receivers.
static void check_alive() {
    dynamo_runtime_t *const echo = start_echo();
    dynamo_runtime_t *const script = start("{'engine': 'scripted'}");
    std::atomic<int> ends{0};
    const int before = released;
    dynamo_request_t *const called = say("a b c");
    CHECK_STATUS(dynamo_request_set_callback(called, on_event, &ends, on_release), DYNAMO_OK);
    sent(echo, called);
    EVENTUALLY(ends == 1 && released == before + 1);
    dynamo_request_destroy(called);
    dynamo_request_t *const late = say_script("[{'stall': true}]");
    CHECK_STATUS(dynamo_request_set_deadlines(late, -1, 20), DYNAMO_OK);
    check_answer(sent(script, late), "", DYNAMO_ERROR_DEADLINE_EXCEEDED);
    check_answer(sent(echo, say("a b")), "a b", DYNAMO_END);
    dynamo_runtime_destroy(echo);
    dynamo_runtime_destroy(script);
}

static void check_logged(const char *function) {
    if (what != What::end_of_thread) {
        EVENTUALLY(!logged().empty());
        CHECK_CONTAINS(logged().c_str(), function);
        CHECK_CONTAINS(logged().c_str(), text_of(what));
    }
}

static void throws_in_the_callback_of_a_request() {
    for (const char *where : {"callback", "last callback", "release"}) {
        dynamo_runtime_t *const runtime = start_echo();
        std::atomic<int> ends{0};
        const int before = released;
        dynamo_request_t *const request = say("a b c");
        CHECK_STATUS(dynamo_request_set_callback(request, on_event, &ends, on_release), DYNAMO_OK);
        arm(where);
        sent(runtime, request);
        EVENTUALLY(released == before + 1 && is_done());
        CHECK(ends == 1);
        check_logged("dynamo_request_set_callback()");
        dynamo_request_destroy(request);
        dynamo_runtime_destroy(runtime);
        check_alive();
    }
}

static void throws_in_the_callback_of_notify() {
    dynamo_runtime_t *const runtime = start_lab();
    std::atomic<int> calls{0};
    arm("ready");
    dynamo_request_t *const request = sent(runtime, say("x"));
    CHECK_STATUS(dynamo_request_notify(request, on_ready, &calls), DYNAMO_OK);
    EVENTUALLY(is_done());
    check_logged("dynamo_request_notify()");
    CHECK(calls == 1);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    check_alive();
}

// An exception in a function with a result: ENGINE_FAILED.
static void throws_in_start() {
    arm("start");
    CHECK(dynamo_runtime_create(R"({"engine": "lab"})") == nullptr);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_CONTAINS(dynamo_last_error(), text_of(what));
    CHECK_CONTAINS(dynamo_last_error_json(), R"("layer":"engine","engine":"lab")");
    check_logged("the start function of the engine \"lab\"");
    arm("describe");
    CHECK(dynamo_runtime_create(R"({"engine": "lab"})") == nullptr);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
    check_logged("the describe function");
    dynamo_runtime_t *const runtime = start_lab();
    arm("describe");
    CHECK(dynamo_runtime_models(runtime) == nullptr);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
    dynamo_runtime_destroy(runtime);
    check_alive();
}

static void throws_in_generate() {
    dynamo_runtime_t *const runtime = start_lab();
    arm("generate");
    dynamo_request_t *const request = say("x");
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_CONTAINS(dynamo_last_error(), text_of(what));
    check_logged("the generate function of the engine \"lab\"");
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_OK);  // the request is unchanged
    check_answer(request, "word word ", DYNAMO_END);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
}

// A queued request is started in a thread of the library.
static void throws_in_generate_after_the_queue() {
    dynamo_runtime_t *const runtime = start(
        "{'engine': 'lab', 'stream': {'capacity': 2}, 'limits': {'max_concurrent': 1, "
        "'max_queued': 9}}");
    dynamo_request_t *const first = sent(runtime, say("x"));
    dynamo_request_t *const second = sent(runtime, say("x"));
    arm("generate");
    dynamo_request_destroy(first);
    EVENTUALLY(is_done());
    check_answer(second, "word word ", DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    check_alive();
}

// Runs the function in a thread of the program, since the function may end its thread.
template <class Function>
static void in_a_thread(Function function) {
    std::thread(function).join();
}

static void throws_in_cancel() {
    dynamo_runtime_t *const runtime = start_lab();
    dynamo_request_t *const request = sent(runtime, say("x"));
    arm("cancel");
    in_a_thread([&] { dynamo_request_cancel(request); });
    CHECK(is_done());
    check_logged("the cancel function of the engine \"lab\"");
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_ERROR_CANCELLED);
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);  // nothing is in flight
    dynamo_runtime_destroy(runtime);
    check_alive();
}

// Cancelled by a deadline, so cancel() runs in the library's thread.
static void throws_in_cancel_at_a_deadline() {
    dynamo_runtime_t *const runtime = start_lab();
    dynamo_request_t *const request = say("x");
    CHECK_STATUS(dynamo_request_set_deadlines(request, -1, 20), DYNAMO_OK);
    arm("cancel");
    sent(runtime, request);
    EVENTUALLY(is_done());
    EVENTUALLY(dynamo_request_status(request) == DYNAMO_ERROR_DEADLINE_EXCEEDED);
    check_logged("the cancel function");
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    check_alive();
}

// The request ends, since the engine might never push again.
static void throws_in_on_writable() {
    dynamo_runtime_t *const runtime = start_lab();
    dynamo_request_t *const request = sent(runtime, say("x"));
    arm("on_writable");
    in_a_thread([&] { dynamo_free(dynamo_request_recv(request)); });
    CHECK(is_done());
    check_logged("the on_writable function of the engine \"lab\"");
    if (what == What::end_of_thread) {
        dynamo_request_cancel(request);
    } else {
        CHECK(dynamo_request_recv(request) == nullptr);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
    }
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    check_alive();
}

static void throws_in_stop() {
    dynamo_runtime_t *const runtime = start_lab();
    arm("stop");
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(is_done());
    check_logged("the stop function of the engine \"lab\"");
    dynamo_runtime_destroy(runtime);
    check_alive();
}

static void throws_in_metrics() {
    dynamo_runtime_t *const runtime = start_lab();
    arm("metrics");
    in_a_thread([&] {
        char *const text = dynamo_runtime_metrics(runtime);
        CHECK_CONTAINS(text, "dynamo_llm_requests_total");
        dynamo_free(text);
    });
    CHECK(is_done());
    check_logged("the metrics function of the engine \"lab\"");
    char *const text = dynamo_runtime_metrics(runtime);
    CHECK_CONTAINS(text, "lab 1\n");
    dynamo_free(text);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    check_alive();
}

// An exception from a log callback can only be reported on stderr.
static void throws_in_log() {
    arm("log");
    in_a_thread([] { dynamo_log_write(DYNAMO_LOG_ERROR, "test", "a record"); });
    CHECK(is_done());
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", "another");
    CHECK_CONTAINS(logged().c_str(), "another");
    check_alive();
}

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
// The same through the C++ wrapper.
static void throws_in_functions_of_the_wrapper() {
    const Runtime runtime = MUST(Runtime::create(Config().engine("echo")));
    Request request = MUST(Request::create(Completion("a b")));
    MUST(request.set_callback([](const Received &) { act("function"); }));
    arm("function");
    MUST(runtime.send(request));
    EVENTUALLY(is_done());
    EVENTUALLY(request.status() != DYNAMO_PENDING);
    check_logged("dynamo_request_set_callback()");

    std::atomic<int> seen{0};
    MUST(dynamo_llm::set_log(DYNAMO_LOG_ERROR,
                             [&](std::int32_t, std::string_view, std::string_view) {
                                 ++seen;
                                 act("log function");
                             }));
    arm("log function");
    in_a_thread([] { dynamo_log_write(DYNAMO_LOG_ERROR, "test", "a record"); });
    CHECK(is_done() && seen == 1);
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_ERROR, on_record, nullptr, nullptr), DYNAMO_OK);
    check_alive();
}
#endif

static void throws_in_releases() {
    if (what == What::end_of_thread) {
        return;  // not supported: releases run in destructors
    }
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_ERROR, on_record, nullptr,
                                         [](void *) { act("log release"); }),
                 DYNAMO_OK);
    arm("log release");
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_ERROR, on_record, nullptr, nullptr), DYNAMO_OK);
    CHECK(is_done());
    check_logged("dynamo_log_set_callback()");
    arm("engine release");
    CHECK_STATUS(dynamo_engine_unregister("lab"), DYNAMO_OK);
    CHECK(is_done());
    check_logged("dynamo_engine_register()");
    register_lab();
}

int main() {
    BEGIN();
    register_lab();
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_ERROR, on_record, nullptr, nullptr), DYNAMO_OK);
    for (const What each :
         {What::standard, What::number, What::foreign_type, What::end_of_thread}) {
        what = each;
        std::fprintf(stderr, "%s\n",
                     each == What::end_of_thread ? "pthread_exit()" : text_of(each));
        RUN(throws_in_the_callback_of_a_request);
        RUN(throws_in_the_callback_of_notify);
        if (each != What::end_of_thread) {
            RUN(throws_in_start);
            RUN(throws_in_generate);
        }
        RUN(throws_in_generate_after_the_queue);
        RUN(throws_in_cancel);
        RUN(throws_in_cancel_at_a_deadline);
        RUN(throws_in_on_writable);
        RUN(throws_in_stop);
        RUN(throws_in_metrics);
        RUN(throws_in_log);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
        RUN(throws_in_functions_of_the_wrapper);
#endif
        RUN(throws_in_releases);
    }
    write_reliability(
        __FILE__, "main",
        "a callback of the host, or a function of an engine in C++, throws something", 3 * 18,
        "it was logged; a request or a create that waited for it had ENGINE_FAILED or was "
        "cancelled; the library went on");
    write_reliability(__FILE__, "main",
                      "a callback of the host, or a function of an engine, ends its thread", 12,
                      "the thread ended; the library's own threads were replaced, and it went on");
    return 0;
}
