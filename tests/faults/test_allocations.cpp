// SPDX-License-Identifier: Apache-2.0
// Each allocation of the library fails in turn, alone and together with all later ones. Every call must return a
// status, every request that was sent must end once, no text may be lost or duplicated, and everything must work
// again once memory is available.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
#include "../c/support.h"
}
#include "dynamo_llm/engine.h"
#include "memory.hpp"

namespace {

constexpr std::int64_t patience_ms = 60000;

// Checks that the status is one that memory exhaustion may cause.
void check_out_of_memory(std::int32_t status) {
    if (status != DYNAMO_ERROR_OUT_OF_MEMORY) {
        std::fprintf(stderr, "%s: %s\n", dynamo_status_name(status), dynamo_last_error());
    }
    CHECK(status == DYNAMO_ERROR_OUT_OF_MEMORY);
    CHECK(std::strlen(dynamo_last_error()) > 0);
    CHECK(dynamo_last_error_json() != nullptr);
}

template <class Handle>
bool made(Handle *handle) {
    if (handle == nullptr) {
        check_out_of_memory(dynamo_last_status());
    }
    return handle != nullptr;
}

bool done(std::int32_t status) {
    if (status != DYNAMO_OK) {
        check_out_of_memory(status);
    }
    return status == DYNAMO_OK;
}

// A string in a fixed buffer: the test itself must not allocate.
class Text {
  public:
    void append(const char *piece, std::size_t length) {
        CHECK(length_ + length < sizeof text_);
        std::memcpy(text_ + length_, piece, length);
        length_ += length;
        text_[length_] = '\0';
    }
    bool begins(const char *whole) const { return std::strncmp(text_, whole, length_) == 0; }
    const char *c_str() const { return text_; }

  private:
    char text_[1000] = "";
    std::size_t length_ = 0;
};

// Receives everything. Either the text is complete or the request has failed. A response that could not be delivered
// for lack of memory is delivered by the next call.
void receive_all_of(dynamo_request_t *request, const char *expected) {
    Text text;
    for (int refusals = 0;;) {
        dynamo_response_t *response = nullptr;
        const std::int32_t status = dynamo_request_next(request, patience_ms, &response);
        if (status == DYNAMO_OK) {
            std::size_t length = 0;
            const char *const piece = dynamo_response_text(response, &length);
            if (piece != nullptr) {
                text.append(piece, length);
            }
            const char *const whole = dynamo_response_json(response);
            if (whole == nullptr) {
                check_out_of_memory(dynamo_last_status());
            }
            dynamo_free(response);
            continue;
        }
        CHECK(status != DYNAMO_PENDING);
        if (status == DYNAMO_END) {
            CHECK_TEXT(text.c_str(), expected);
            CHECK_STATUS(dynamo_request_status(request), DYNAMO_END);
            return;
        }
        CHECK(status == DYNAMO_ERROR_OUT_OF_MEMORY);
        if (dynamo_request_status(request) == status) {
            CHECK(text.begins(expected));
            return;
        }
        if (++refusals == 1000) {  // cannot succeed while every allocation fails
            memory::disarm();
        }
        CHECK(refusals < 2000);
    }
}

#define PROMPT "a prompt of some words that is longer than a string without memory of its own"
constexpr const char *prompt = PROMPT;
constexpr const char *body = "{\"prompt\": \"" PROMPT "\"}";

template <class Use>
void with_runtime(const char *config, Use use) {
    dynamo_runtime_t *const runtime = dynamo_runtime_create(config);
    if (made(runtime)) {
        use(runtime);
    }
    dynamo_runtime_destroy(runtime);
}

void runtimes() {
    with_runtime(R"({"engine": "echo", "options": {"repeat": 1}})", [](dynamo_runtime_t *) {});
}

void an_answer() {
    with_runtime(R"({"engine": "echo"})", [](dynamo_runtime_t *runtime) {
        dynamo_request_t *const request = dynamo_request_create(body);
        if (made(request) && done(dynamo_request_send(runtime, request))) {
            receive_all_of(request, prompt);
        }
        dynamo_request_destroy(request);
    });
}

// Results of a request with a callback: its text, terminal events, and releases.
struct Calls {
    Text text;
    std::atomic<int> ends{0};
    std::atomic<int> releases{0};
    std::atomic<std::int32_t> status{DYNAMO_PENDING};
};

void a_callback() {
    auto *const calls = new (std::nothrow) Calls;
    if (calls == nullptr) {
        return;
    }
    with_runtime(R"({"engine": "echo"})", [calls](dynamo_runtime_t *runtime) {
        dynamo_request_t *const request = dynamo_request_create(body);
        if (!made(request)) {
            return;
        }
        const auto callback = [](void *user, dynamo_request_t *, dynamo_response_t *response,
                                 std::int32_t status) {
            auto *const its = static_cast<Calls *>(user);
            if (response == nullptr) {
                its->status = status;
                ++its->ends;
                return;
            }
            std::size_t length = 0;
            const char *const piece = dynamo_response_text(response, &length);
            its->text.append(piece, length);
            dynamo_free(response);
        };
        const auto release = [](void *user) { ++static_cast<Calls *>(user)->releases; };
        const bool is_set = done(dynamo_request_set_callback(request, callback, calls, release));
        if (is_set && done(dynamo_request_send(runtime, request))) {
            EVENTUALLY(calls->ends > 0);
        }
        dynamo_request_destroy(request);
        if (is_set) {
            EVENTUALLY(calls->releases > 0);
        }
        if (calls->ends > 0 && calls->status == DYNAMO_END) {
            CHECK_TEXT(calls->text.c_str(), prompt);
        }
        CHECK(calls->ends <= 1 && calls->releases == (is_set ? 1 : 0));
    });
    delete calls;
}

void a_cancel() {
    with_runtime(
        R"({"engine": "scripted", "options": {"script": [{"text": "a"}, {"stall": true}]}})",
        [](dynamo_runtime_t *runtime) {
            dynamo_request_t *const request = dynamo_request_create(body);
            if (made(request) &&
                done(dynamo_request_set_deadlines(request, patience_ms, patience_ms)) &&
                done(dynamo_request_send(runtime, request))) {
                dynamo_response_t *response = nullptr;
                const std::int32_t first = dynamo_request_next(request, patience_ms, &response);
                CHECK(first == DYNAMO_OK || first == DYNAMO_ERROR_OUT_OF_MEMORY);
                dynamo_free(response);
                CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
                const std::int32_t status = dynamo_request_status(request);
                CHECK(status == DYNAMO_ERROR_CANCELLED || status == DYNAMO_ERROR_OUT_OF_MEMORY);
                dynamo_request_error(request);
                dynamo_request_error_json(request);
            }
            dynamo_request_destroy(request);
        });
}

void a_bounded_stream() {
    with_runtime(R"({"engine": "echo", "stream": {"capacity": 2}})", [](dynamo_runtime_t *runtime) {
        dynamo_request_t *const request = dynamo_request_create(body);
        if (made(request) && done(dynamo_request_send(runtime, request))) {
            receive_all_of(request, prompt);
        }
        dynamo_request_destroy(request);
    });
}

void a_queue() {
    with_runtime(
        R"({"engine": "echo", "limits": {"max_concurrent": 1}})", [](dynamo_runtime_t *runtime) {
            dynamo_request_t *requests[3] = {};
            bool is_sent[3] = {};
            for (int i = 0; i < 3; ++i) {
                requests[i] = dynamo_request_create(body);
                is_sent[i] = made(requests[i]) && done(dynamo_request_send(runtime, requests[i]));
            }
            for (int i = 0; i < 3; ++i) {
                if (is_sent[i]) {
                    receive_all_of(requests[i], prompt);
                }
                dynamo_request_destroy(requests[i]);
            }
        });
}

void a_shutdown() {
    with_runtime(R"({"engine": "scripted", "options": {"script": [{"stall": true}]}})",
                 [](dynamo_runtime_t *runtime) {
                     dynamo_request_t *const request = dynamo_request_create(body);
                     if (made(request) && done(dynamo_request_send(runtime, request))) {
                         dynamo_runtime_shutdown(runtime, 0);
                         dynamo_response_t *response = nullptr;
                         const std::int32_t status =
                             dynamo_request_next(request, patience_ms, &response);
                         CHECK(status < 0 && response == nullptr);
                     }
                     dynamo_request_destroy(request);
                 });
}

void what_there_is_to_know() {
    with_runtime(R"({"engine": "echo"})", [](dynamo_runtime_t *runtime) {
        for (const auto ask :
             {dynamo_runtime_metrics, dynamo_runtime_models, dynamo_runtime_statistics}) {
            char *const text = ask(runtime);
            if (made(text)) {
                dynamo_free(text);
            }
        }
    });
}

void an_error() {
    dynamo_runtime_t *const runtime = dynamo_runtime_create(R"({"engin": "echo"})");
    CHECK(runtime == nullptr);
    const std::int32_t status = dynamo_last_status();
    CHECK(status == DYNAMO_ERROR_INVALID_CONFIG || status == DYNAMO_ERROR_OUT_OF_MEMORY);
    CHECK(dynamo_last_error() != nullptr && dynamo_last_error_json() != nullptr);
}

void data() {
    with_runtime(R"({"engine": "echo"})", [](dynamo_runtime_t *runtime) {
        dynamo_request_t *const request =
            dynamo_request_create_data(DYNAMO_DATA_JSON, body, std::strlen(body));
        if (made(request) && done(dynamo_request_send(runtime, request))) {
            receive_all_of(request, "");
        }
        dynamo_request_destroy(request);
    });
}

void a_chat() {
    with_runtime(R"({"engine": "echo"})", [](dynamo_runtime_t *runtime) {
        dynamo_chat_t *const chat = dynamo_chat_create();
        if (made(chat) && done(dynamo_chat_add_message(chat, "user", prompt)) &&
            done(dynamo_chat_set_number(chat, "temperature", 0.5))) {
            dynamo_response_t *const whole = dynamo_chat_complete(runtime, chat, patience_ms);
            if (made(whole)) {
                CHECK_TEXT(dynamo_response_text(whole, nullptr), prompt);
                done(dynamo_chat_add_answer(chat, whole));
            }
            if (done(dynamo_chat_add_tool(chat, "t", prompt, nullptr))) {
                done(dynamo_chat_add_parameter(chat, "t", "p", "string", prompt, 1));
            }
            dynamo_free(whole);
            char *const text = dynamo_chat_json(chat);
            dynamo_json_t *const read = made(text) ? dynamo_json_create(text) : nullptr;
            if (made(read)) {
                const char *const content =
                    dynamo_json_string(read, "/messages/0/content", nullptr);
                if (content != nullptr) {
                    CHECK_TEXT(content, prompt);
                }
            }
            dynamo_json_destroy(read);
            dynamo_free(text);
        }
        dynamo_chat_destroy(chat);
    });
}

// The events of all responses have consecutive numbers, and the last one has the whole text once.
[[maybe_unused]] void a_responses_stream() {
    with_runtime(R"({"engine": "echo"})", [](dynamo_runtime_t *runtime) {
        dynamo_request_t *const request =
            dynamo_request_create("{\"task\": \"respond\", \"input\": \"" PROMPT "\"}");
        if (!made(request) || !done(dynamo_request_send(runtime, request))) {
            dynamo_request_destroy(request);
            return;
        }
        long number = 0;
        for (int refusals = 0;;) {
            dynamo_response_t *response = nullptr;
            const std::int32_t status = dynamo_request_next(request, patience_ms, &response);
            if (status == DYNAMO_END || (status < 0 && dynamo_request_status(request) == status)) {
                break;
            }
            if (status != DYNAMO_OK) {
                CHECK(status == DYNAMO_ERROR_OUT_OF_MEMORY);
                if (++refusals == 3) {  // cannot succeed while every allocation fails
                    memory::disarm();
                }
                CHECK(refusals < 2000);
                continue;
            }
            const char *json = dynamo_response_json(response);
            while (json == nullptr) {
                check_out_of_memory(dynamo_last_status());
                memory::disarm();
                json = dynamo_response_json(response);
            }
            constexpr const char *key = "\"sequence_number\":";
            const char *last = json;
            for (const char *at = json; (at = std::strstr(at, key)) != nullptr; last = at) {
                at += std::strlen(key);
                CHECK(std::strtol(at, nullptr, 10) == number);
                ++number;
            }
            if (std::strstr(last, "\"output\"") != nullptr && number > 2) {
                CHECK(std::strstr(last, "\"text\":\"" PROMPT "\"") != nullptr);
            }
            dynamo_free(response);
        }
        dynamo_request_destroy(request);
    });
}

struct Scenario {
    const char *name;
    void (*run)();
};

long failed_runs = 0;

void fail_each(const Scenario &scenario, memory::Fails how) {
    long n = 0;
    long failures = 0;
    while (true) {
        ++n;
        memory::arm(n, how);
        scenario.run();
        const long failed = memory::disarm();
        if (failed == 0) {
            break;
        }
        failures += failed;
        CHECK(n < 100000);
    }
    failed_runs += n - 1;
    scenario.run();  // all allocations succeed again
    std::fprintf(stderr, "    %s: %ld runs, %ld allocations failed\n",
                 how == memory::Fails::once ? "one fails" : "one and all after it", n - 1,
                 failures);
}

}  // namespace

int main(int count, char **words) {
    BEGIN();
    const Scenario scenarios[] = {
        {"runtimes", runtimes},
        {"an_answer", an_answer},
        {"a_callback", a_callback},
        {"a_cancel", a_cancel},
        {"a_bounded_stream", a_bounded_stream},
        {"a_queue", a_queue},
        {"a_shutdown", a_shutdown},
        {"what_there_is_to_know", what_there_is_to_know},
        {"an_error", an_error},
        {"data", data},
        {"a_chat", a_chat},
#ifndef __SANITIZE_THREAD__  // its pthread_once() waits forever after an exception, so a second attempt never ends
        {"a_responses_stream", a_responses_stream},
#endif
    };
    for (const Scenario &scenario : scenarios) {
        if (count > 1 && std::strcmp(words[1], scenario.name) != 0) {
            continue;
        }
        std::fprintf(stderr, "  %s\n", scenario.name);
        scenario.run();  // one-time allocations happen here
        fail_each(scenario, memory::Fails::once);
        fail_each(scenario, memory::Fails::for_ever);
    }
    RELIABILITY(
        "an allocation of the core fails, alone or with all after it, each in turn", failed_runs,
        "OUT_OF_MEMORY or a result; each request ended once, nothing leaked, and then it worked");
    return 0;
}
