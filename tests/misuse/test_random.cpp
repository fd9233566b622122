// SPDX-License-Identifier: Apache-2.0
// Random calls of all functions from several threads, with handles of every type and state: each call must return a
// documented status, every callback must be released once, and nothing may leak.
//
//     test_random [--calls N] [--threads N] [--seed N] [--exports FILE]
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

extern "C" {
#include "../c/calls.h"
#include "../c/support.h"
}
#include "pool.hpp"

namespace {

Pool runtimes, requests, responses, streams, queues, chats, texts, creations;
std::atomic<long> callbacks_set{0};
std::atomic<long> callbacks_released{0};
std::atomic<long> calls_made{0};
thread_local const char *current = "";

using Statuses = std::initializer_list<std::int32_t>;

// Checks that the status is a success or one of `allowed`.
void expect(std::int32_t status, Statuses allowed) {
    if (status >= 0) {
        CHECK(status <= DYNAMO_PENDING);
        return;
    }
    for (const std::int32_t one : allowed) {
        if (status == one) {
            CHECK(dynamo_last_error_json() != nullptr);
            return;
        }
    }
    // Also allowed is a repeated error: after a failed create or send in this thread, using the NULL or the unsent
    // request reports that error again.
    if (std::strstr(dynamo_last_error(), "failed earlier") != nullptr) {
        return;
    }
    std::fprintf(stderr, "%s gave %s: %s\n", current, dynamo_status_name(status),
                 dynamo_last_error());
    CHECK(!"a status that is not expected");
}

constexpr auto stale = DYNAMO_ERROR_INVALID_HANDLE;
constexpr auto state = DYNAMO_ERROR_INVALID_STATE;
constexpr auto argument = DYNAMO_ERROR_INVALID_ARGUMENT;
// Also allows every status with which a request may end here.
void expect_request(std::int32_t status) {
    expect(status, {stale, state, DYNAMO_ERROR_CANCELLED, DYNAMO_ERROR_DEADLINE_EXCEEDED,
                    DYNAMO_ERROR_SLOW_CONSUMER, DYNAMO_ERROR_ENGINE_FAILED, DYNAMO_ERROR_OVERLOADED,
                    DYNAMO_ERROR_CLOSED, DYNAMO_ERROR_INVALID_REQUEST, DYNAMO_ERROR_NOT_SUPPORTED,
                    DYNAMO_ERROR_MODEL_NOT_FOUND,
                    DYNAMO_ERROR_INTERNAL /* failed with a status that is not an error */});
}

template <class Handle>
Handle *of(void *handle) {
    return static_cast<Handle *>(handle);
}

// Returns a handle, usually of the right type, occasionally of another.
void *some(Chance &chance, const Pool &right) {
    const Pool *const pools[] = {&runtimes, &requests, &responses, &streams,
                                 &queues,   &chats,    &texts,     &creations};
    return (chance.one_in(12) ? *pools[chance.below(8)] : right).any(chance);
}

// ------------------------------------------------------------------------- an engine in C

std::int32_t start(void *, const char *, void **instance) {
    static int here;
    *instance = &here;
    return DYNAMO_OK;
}

thread_local Chance *own_chance = nullptr;

std::int32_t generate(void *, dynamo_stream_t *stream, const char *, const char *) {
    // Any thread that draws the stream acts as the engine; a cancel or a deadline ends all other streams.
    if (own_chance != nullptr) {
        streams.exchange(*own_chance, stream);
    }
    return DYNAMO_OK;
}

void cancel(void *, dynamo_stream_t *stream) {
    dynamo_stream_finish(stream, nullptr, nullptr);
}

void nothing(void *, dynamo_stream_t *) {}
void stop(void *) {}

const dynamo_engine_t &engine() {
    static const dynamo_engine_t functions = [] {
        dynamo_engine_t made{};
        made.struct_size = sizeof made;
        made.start = start;
        made.generate = generate;
        made.cancel = cancel;
        made.on_writable = nothing;
        made.stop = stop;
        return made;
    }();
    return functions;
}

// ------------------------------------------------------------------------- callbacks

void on_event(void *, dynamo_request_t *request, dynamo_response_t *response, std::int32_t status) {
    const auto number = reinterpret_cast<std::uintptr_t>(request) >> 5;
    if (response != nullptr && number % 3 != 0) {
        dynamo_free(response);
    } else if (response != nullptr) {
        thread_local Chance chance(number);
        dynamo_free(responses.exchange(chance, response));
    }
    switch (number % 7) {
        case 0:
            dynamo_request_destroy(request);
            break;
        case 1:
            dynamo_request_cancel(request);
            break;
        case 2:
            std::this_thread::sleep_for(std::chrono::microseconds(200));
            break;
        case 3: {
            dynamo_response_t *none = nullptr;
            CHECK(dynamo_request_next(request, 0, &none) < 0 && none == nullptr);
            break;
        }
        default:
            break;
    }
    CHECK(response != nullptr || status == DYNAMO_END || status < 0);
}

void on_creation(void *, const dynamo_creation_event_t *event) {
    dynamo_runtime_destroy(event->runtime);
}

void on_release(void *) {
    ++callbacks_released;
}

void on_ready(void *user) {
    ++*static_cast<std::atomic<long> *>(user);
}

// ------------------------------------------------------------------------- the calls

struct Operation {
    const char *name;
    unsigned weight;
    void (*run)(Chance &chance);
};

std::int64_t short_time(Chance &chance) {
    const std::int64_t times[] = {0, 0, 1, 2, -2};
    return times[chance.below(5)];
}

const char *body(Chance &chance) {
    const char *const bodies[] = {
        R"({"prompt": "a few words to say"})",
        R"({"prompt": "a few words", "stream": false})",
        R"({"messages": [{"role": "user", "content": "hello there"}], "nvext": {"extra_fields": ["timing"]}})",
        R"({"prompt": "[{\"text\": \"ab\", \"repeat\": 50}, {\"error\": {\"status\": \"OVERLOADED\"}}]"})",
        R"({"prompt": "[{\"text\": \"ab\"}, {\"stall\": true}]"})",
        R"({"prompt": "[{\"bytes\": \"f09f\"}, {\"delay_ms\": 1}, {\"delta\": {\"a\": 1}}]", "n": 2})",
        R"({"prompt": 7})",
        R"({"prompt")",
        "",
    };
    return bodies[chance.below(9)];
}

const char *config(Chance &chance) {
    const char *const configs[] = {
        R"({"engine": "echo"})",
        R"({"engine": "echo", "options": {"repeat": 100}, "stream": {"capacity": 3}})",
        R"({"engine": "echo", "options": {"repeat": 100}, "stream": {"capacity": 3, "when_full": "fail"}})",
        R"({"engine": "scripted"})",
        R"({"engine": "scripted", "limits": {"max_concurrent": 2, "max_queued": 3}})",
        R"({"engine": "misuse"})",
        R"({"engine": "misuse", "limits": {"max_concurrent": 1, "total_ms": 5}})",
        R"({"models": [{"name": "a", "engine": "echo"}, {"name": "b", "engine": "misuse"}]})",
        R"({"engine": "ech"})",
        R"({"engine": 1})",
    };
    return configs[chance.below(10)];
}

const Operation operations[] = {
    {"dynamo_runtime_create", 3,
     [](Chance &chance) {
         dynamo_runtime_t *const made = dynamo_runtime_create(config(chance));
         if (made == nullptr) {
             expect(dynamo_last_status(),
                    {DYNAMO_ERROR_INVALID_CONFIG, DYNAMO_ERROR_ENGINE_NOT_FOUND, argument,
                     DYNAMO_ERROR_INVALID_JSON, DYNAMO_ERROR_PYTHON_UNAVAILABLE});
         }
         dynamo_runtime_destroy(of<dynamo_runtime_t>(runtimes.exchange(chance, made)));
     }},
    {"dynamo_runtime_create_async", 2,
     [](Chance &chance) {
         const bool has_callback = !chance.one_in(10);
         if (has_callback) {
             ++callbacks_set;
         }
         dynamo_creation_t *const made = dynamo_runtime_create_async(
             config(chance), has_callback ? on_creation : nullptr, nullptr, on_release);
         if (made == nullptr) {
             if (has_callback) {
                 --callbacks_set;
             }
             expect(dynamo_last_status(),
                    {DYNAMO_ERROR_INVALID_CONFIG, argument, DYNAMO_ERROR_INVALID_JSON});
         }
         dynamo_creation_destroy(of<dynamo_creation_t>(creations.exchange(chance, made)));
     }},
    {"dynamo_runtime_destroy", 1,
     [](Chance &chance) {
         dynamo_runtime_destroy(of<dynamo_runtime_t>(some(chance, runtimes)));
         expect(dynamo_last_status(), {stale});
     }},
    {"dynamo_runtime_shutdown", 1,
     [](Chance &chance) {
         expect(dynamo_runtime_shutdown(of<dynamo_runtime_t>(some(chance, runtimes)),
                                        short_time(chance)),
                {stale, argument, DYNAMO_ERROR_DEADLINE_EXCEEDED});
     }},
    {"dynamo_runtime_statistics", 2,
     [](Chance &chance) {
         dynamo_free(dynamo_runtime_statistics(of<dynamo_runtime_t>(some(chance, runtimes))));
     }},
    {"dynamo_runtime_models", 2,
     [](Chance &chance) {
         dynamo_free(dynamo_runtime_models(of<dynamo_runtime_t>(some(chance, runtimes))));
     }},
    {"dynamo_runtime_metrics", 2,
     [](Chance &chance) {
         dynamo_free(dynamo_runtime_metrics(of<dynamo_runtime_t>(some(chance, runtimes))));
     }},
    {"dynamo_config_schema", 1, [](Chance &) { CHECK(dynamo_config_schema() != nullptr); }},
    {"dynamo_abi_version", 1,
     [](Chance &) { CHECK(dynamo_abi_version() == DYNAMO_LLM_ABI_VERSION); }},
    {"dynamo_version_string", 1, [](Chance &) { CHECK(dynamo_version_string() != nullptr); }},
    {"dynamo_version_check", 1,
     [](Chance &chance) {
         expect(dynamo_version_check(static_cast<std::uint32_t>(chance.below(3)),
                                     chance.one_in(2) ? "1.0.0" : nullptr),
                {DYNAMO_ERROR_VERSION_MISMATCH, argument});
     }},
    {"dynamo_status_name", 1,
     [](Chance &chance) {
         CHECK(dynamo_status_name(static_cast<std::int32_t>(chance.below(60)) - 30) != nullptr);
     }},
    {"dynamo_last_status", 1,
     [](Chance &) { expect(dynamo_last_status(), {dynamo_last_status()}); }},
    {"dynamo_last_error", 1, [](Chance &) { CHECK(dynamo_last_error() != nullptr); }},
    {"dynamo_last_error_json", 1, [](Chance &) { CHECK(dynamo_last_error_json() != nullptr); }},
    {"dynamo_log_level", 1, [](Chance &) { CHECK(dynamo_log_level() >= 0); }},
    {"dynamo_log_write", 1,
     [](Chance &) { dynamo_log_write(DYNAMO_LOG_DEBUG, "misuse", "nobody hears it"); }},
    {"dynamo_log_set_callback", 1,
     [](Chance &chance) {
         expect(dynamo_log_set_callback(chance.one_in(2) ? DYNAMO_LOG_OFF : DYNAMO_LOG_ERROR,
                                        nullptr, nullptr, nullptr),
                {argument});
     }},
    {"dynamo_request_create", 12,
     [](Chance &chance) {
         dynamo_request_t *const made = dynamo_request_create(body(chance));
         if (made == nullptr) {
             expect(dynamo_last_status(),
                    {DYNAMO_ERROR_INVALID_JSON, DYNAMO_ERROR_INVALID_REQUEST});
         } else {
             expect(dynamo_request_set_deadlines(made, -1,
                                                 1 + static_cast<std::int64_t>(chance.below(20))),
                    {});
             if (chance.one_in(3)) {
                 expect(dynamo_request_set_callback(made, on_event, nullptr, on_release), {});
                 ++callbacks_set;
             }
         }
         dynamo_request_destroy(of<dynamo_request_t>(requests.exchange(chance, made)));
     }},
    {"dynamo_request_create_data", 2,
     [](Chance &chance) {
         const auto kind = static_cast<std::int32_t>(chance.below(4));
         dynamo_request_t *const made =
             dynamo_request_create_data(kind, chance.one_in(4) ? nullptr : "[1]", 3);
         if (made == nullptr) {
             expect(dynamo_last_status(), {argument, DYNAMO_ERROR_INVALID_JSON});
         } else {
             expect(dynamo_request_set_deadlines(made, 5, 10), {});
         }
         dynamo_request_destroy(of<dynamo_request_t>(requests.exchange(chance, made)));
     }},
    {"dynamo_request_set_deadlines", 2,
     [](Chance &chance) {
         expect(dynamo_request_set_deadlines(of<dynamo_request_t>(some(chance, requests)),
                                             static_cast<std::int64_t>(chance.below(5)), 10),
                {stale, state, argument});
     }},
    {"dynamo_request_set_callback", 1,
     [](Chance &chance) {
         const std::int32_t status = dynamo_request_set_callback(
             of<dynamo_request_t>(some(chance, requests)), chance.one_in(3) ? nullptr : on_event,
             nullptr, on_release);
         callbacks_set += status == DYNAMO_OK;
         expect(status, {stale, state, argument});
     }},
    {"dynamo_request_send", 14,
     [](Chance &chance) {
         expect_request(dynamo_request_send(of<dynamo_runtime_t>(some(chance, runtimes)),
                                            of<dynamo_request_t>(some(chance, requests))));
     }},
    {"dynamo_request_recv", 3,
     [](Chance &chance) {
         dynamo_response_t *const made =
             dynamo_request_recv(of<dynamo_request_t>(some(chance, requests)));
         if (made == nullptr) {
             expect_request(dynamo_last_status());
         }
         dynamo_free(responses.exchange(chance, made));
     }},
    {"dynamo_request_next", 12,
     [](Chance &chance) {
         dynamo_response_t *made = nullptr;
         const std::int32_t status =
             dynamo_request_next(of<dynamo_request_t>(some(chance, requests)), short_time(chance),
                                 chance.one_in(20) ? nullptr : &made);
         if (status != argument) {
             expect_request(status);
         }
         CHECK((status == DYNAMO_OK) == (made != nullptr));
         dynamo_free(responses.exchange(chance, made));
     }},
    {"dynamo_request_cancel", 2,
     [](Chance &chance) {
         expect(dynamo_request_cancel(of<dynamo_request_t>(some(chance, requests))), {stale});
     }},
    {"dynamo_request_fd", 1,
     [](Chance &chance) {
         if (dynamo_request_fd(of<dynamo_request_t>(some(chance, requests))) < 0) {
             expect_request(dynamo_last_status());
         }
     }},
    {"dynamo_request_notify", 2,
     [](Chance &chance) {
         static std::atomic<long> ready{0};
         expect(dynamo_request_notify(of<dynamo_request_t>(some(chance, requests)),
                                      chance.one_in(8) ? nullptr : on_ready, &ready),
                {stale, state, argument});
     }},
    {"dynamo_queue_create", 1,
     [](Chance &chance) {
         dynamo_queue_destroy(of<dynamo_queue_t>(queues.exchange(chance, dynamo_queue_create())));
     }},
    {"dynamo_queue_destroy", 1,
     [](Chance &chance) {
         dynamo_queue_destroy(of<dynamo_queue_t>(some(chance, queues)));
         expect(dynamo_last_status(), {stale});
     }},
    {"dynamo_request_set_queue", 5,
     [](Chance &chance) {
         expect(dynamo_request_set_queue(of<dynamo_request_t>(some(chance, requests)),
                                         of<dynamo_queue_t>(some(chance, queues)), &queues),
                {stale, state});
     }},
    {"dynamo_queue_next", 8,
     [](Chance &chance) {
         dynamo_event_t event{};
         event.struct_size = chance.one_in(20) ? 8 : sizeof event;
         const std::int32_t status = dynamo_queue_next(of<dynamo_queue_t>(some(chance, queues)),
                                                       short_time(chance), &event);
         expect(status, {stale, argument, DYNAMO_PENDING, DYNAMO_ERROR_CLOSED});
         CHECK(status == DYNAMO_OK || event.response == nullptr);
         if (status == DYNAMO_OK) {
             CHECK(event.user == &queues && event.request != nullptr);
             CHECK((event.status == DYNAMO_OK) == (event.response != nullptr));
         }
         dynamo_free(responses.exchange(chance, event.response));
     }},
    {"dynamo_request_status", 3,
     [](Chance &chance) {
         expect_request(dynamo_request_status(of<dynamo_request_t>(some(chance, requests))));
     }},
    {"dynamo_request_error", 1,
     [](Chance &chance) { dynamo_request_error(of<dynamo_request_t>(some(chance, requests))); }},
    {"dynamo_request_error_json", 1,
     [](Chance &chance) {
         dynamo_request_error_json(of<dynamo_request_t>(some(chance, requests)));
     }},
    {"dynamo_request_id", 1,
     [](Chance &chance) { dynamo_request_id(of<dynamo_request_t>(some(chance, requests))); }},
    {"dynamo_request_timing", 1,
     [](Chance &chance) {
         dynamo_timing_t timing{};
         timing.struct_size = sizeof timing;
         expect(dynamo_request_timing(of<dynamo_request_t>(some(chance, requests)), &timing),
                {stale, state, argument});
     }},
    {"dynamo_request_destroy", 3,
     [](Chance &chance) {
         dynamo_request_destroy(of<dynamo_request_t>(some(chance, requests)));
         expect(dynamo_last_status(), {stale});
     }},
    // The results are not read: they are valid only until another thread frees the response.
    {"dynamo_response_text", 2,
     [](Chance &chance) {
         std::size_t length = 0;
         dynamo_response_text(of<dynamo_response_t>(some(chance, responses)),
                              chance.one_in(4) ? nullptr : &length);
     }},
    {"dynamo_response_token_ids", 1,
     [](Chance &chance) {
         std::size_t count = 0;
         dynamo_response_token_ids(of<dynamo_response_t>(some(chance, responses)), &count);
     }},
    {"dynamo_response_index", 1,
     [](Chance &chance) { dynamo_response_index(of<dynamo_response_t>(some(chance, responses))); }},
    {"dynamo_response_finish_reason", 1,
     [](Chance &chance) {
         dynamo_response_finish_reason(of<dynamo_response_t>(some(chance, responses)));
     }},
    {"dynamo_response_usage", 1,
     [](Chance &chance) {
         dynamo_usage_t usage{};
         usage.struct_size = chance.one_in(4) ? 0 : sizeof usage;
         expect(dynamo_response_usage(of<dynamo_response_t>(some(chance, responses)), &usage),
                {stale, argument});
     }},
    {"dynamo_response_timing", 1,
     [](Chance &chance) {
         dynamo_timing_t timing{};
         timing.struct_size = sizeof timing;
         expect(dynamo_response_timing(of<dynamo_response_t>(some(chance, responses)), &timing),
                {stale, argument});
     }},
    {"dynamo_response_json", 2,
     [](Chance &chance) { dynamo_response_json(of<dynamo_response_t>(some(chance, responses))); }},
    {"dynamo_response_item_count", 1,
     [](Chance &chance) {
         dynamo_response_item_count(of<dynamo_response_t>(some(chance, responses)));
     }},
    {"dynamo_response_item", 1,
     [](Chance &chance) {
         dynamo_data_t item{};
         expect(dynamo_response_item(of<dynamo_response_t>(some(chance, responses)),
                                     chance.below(3), &item),
                {stale, argument});
     }},
    {"dynamo_response_tool_call", 1,
     [](Chance &chance) {
         dynamo_tool_call_t call{};
         call.struct_size = chance.one_in(4) ? 0 : sizeof call;
         const auto *const response = of<dynamo_response_t>(some(chance, responses));
         expect(
             dynamo_response_tool_call(response, dynamo_response_tool_call_count(response), &call),
             {stale, argument});
     }},
    {"dynamo_response_logprob", 1,
     [](Chance &chance) {
         dynamo_logprob_t logprob{};
         logprob.struct_size = chance.one_in(4) ? 0 : sizeof logprob;
         expect(dynamo_response_logprob(of<dynamo_response_t>(some(chance, responses)),
                                        chance.below(2), &logprob),
                {stale, argument});
     }},
    {"dynamo_response_embedding", 1,
     [](Chance &chance) {
         std::size_t dimensions = 1;
         dynamo_response_embedding(of<dynamo_response_t>(some(chance, responses)), chance.below(2),
                                   &dimensions);
         expect(dynamo_last_status(), {stale, argument});
     }},
    {"dynamo_response_reasoning", 1,
     [](Chance &chance) {
         dynamo_response_reasoning(of<dynamo_response_t>(some(chance, responses)), nullptr);
     }},
    {"dynamo_chat_create", 1,
     [](Chance &chance) {
         dynamo_chat_destroy(of<dynamo_chat_t>(chats.exchange(chance, dynamo_chat_create())));
     }},
    {"dynamo_chat_destroy", 1,
     [](Chance &chance) {
         dynamo_chat_destroy(of<dynamo_chat_t>(some(chance, chats)));
         expect(dynamo_last_status(), {stale});
     }},
    {"dynamo_chat_add_message", 2,
     [](Chance &chance) {
         const char *const texts_of[] = {"a", "\"", "\xff", nullptr};
         expect(dynamo_chat_add_message(of<dynamo_chat_t>(some(chance, chats)), "user",
                                        texts_of[chance.below(4)]),
                {stale, argument});
     }},
    {"dynamo_chat_add_answer", 2,
     [](Chance &chance) {
         expect(dynamo_chat_add_answer(of<dynamo_chat_t>(some(chance, chats)),
                                       of<dynamo_response_t>(some(chance, responses))),
                {stale, argument, state});
     }},
    {"dynamo_chat_add_tool", 1,
     [](Chance &chance) {
         auto *const chat = of<dynamo_chat_t>(some(chance, chats));
         expect(dynamo_chat_add_tool(chat, "t", "d", chance.one_in(2) ? nullptr : "{}"),
                {stale, argument});
         expect(dynamo_chat_add_parameter(chat, "t", "p", "string", nullptr, 1), {stale, argument});
     }},
    {"dynamo_chat_set_json", 1,
     [](Chance &chance) {
         const char *const keys[] = {"messages", "tools", "seed", ""};
         const char *const values[] = {"[]", "null", "1", "{"};
         expect(dynamo_chat_set_json(of<dynamo_chat_t>(some(chance, chats)), keys[chance.below(4)],
                                     values[chance.below(4)]),
                {stale, argument, DYNAMO_ERROR_INVALID_JSON});
     }},
    {"dynamo_chat_json", 2,
     [](Chance &chance) {
         char *const text = dynamo_chat_json(of<dynamo_chat_t>(some(chance, chats)));
         if (text != nullptr) {
             dynamo_json_destroy(
                 of<dynamo_json_t>(texts.exchange(chance, dynamo_json_create(text))));
         }
         dynamo_free(text);
     }},
    {"dynamo_request_create_chat", 2,
     [](Chance &chance) {
         dynamo_request_t *const made =
             dynamo_request_create_chat(of<dynamo_chat_t>(some(chance, chats)));
         if (made == nullptr) {
             expect(dynamo_last_status(), {stale, DYNAMO_ERROR_INVALID_REQUEST});
         } else {
             expect(dynamo_request_set_deadlines(made, 5, 10), {});
         }
         dynamo_request_destroy(of<dynamo_request_t>(requests.exchange(chance, made)));
     }},
    {"dynamo_chat_complete", 1,
     [](Chance &chance) {
         dynamo_response_t *const made =
             dynamo_chat_complete(of<dynamo_runtime_t>(some(chance, runtimes)),
                                  of<dynamo_chat_t>(some(chance, chats)), short_time(chance));
         if (made == nullptr && dynamo_last_status() != argument) {
             expect_request(dynamo_last_status());
         }
         dynamo_free(responses.exchange(chance, made));
     }},
    {"dynamo_json_create", 1,
     [](Chance &chance) {
         const char *const given[] = {"{\"a\": [1, \"x\"]}", "[]", "{", nullptr};
         dynamo_json_t *const made = dynamo_json_create(given[chance.below(4)]);
         dynamo_json_destroy(of<dynamo_json_t>(texts.exchange(chance, made)));
     }},
    {"dynamo_json_string", 2,
     [](Chance &chance) {
         const char *const pointers[] = {"", "/a/1", "/messages/0/content", "a"};
         const auto *const text = of<dynamo_json_t>(some(chance, texts));
         const char *const pointer = pointers[chance.below(4)];
         std::size_t length = 0;
         dynamo_json_string(text, pointer, &length);
         expect(dynamo_last_status(), {stale, argument, DYNAMO_ERROR_INVALID_JSON});
         dynamo_json_count(text, pointer);
         expect(dynamo_last_status(), {stale, argument, DYNAMO_ERROR_INVALID_JSON});
     }},
    {"dynamo_json_destroy", 1,
     [](Chance &chance) {
         dynamo_json_destroy(of<dynamo_json_t>(some(chance, texts)));  // may keep the last error
     }},
    {"dynamo_free", 3, [](Chance &chance) { dynamo_free(some(chance, responses)); }},
    {"dynamo_engine_register", 1,
     [](Chance &chance) {
         const char *const names[] = {"misuse", "misuse", "echo", "python", "", nullptr};
         expect(dynamo_engine_register(names[chance.below(6)],
                                       chance.one_in(5) ? nullptr : &engine(), nullptr, nullptr),
                {argument, state});
     }},
    {"dynamo_engine_unregister", 1,
     [](Chance &chance) {
         const char *const names[] = {"misuse", "echo", "none", nullptr};
         expect(dynamo_engine_unregister(names[chance.below(4)]),
                {argument, state, DYNAMO_ERROR_ENGINE_NOT_FOUND});
     }},
    {"dynamo_engine_progress", 1,
     [](Chance &) { expect(dynamo_engine_progress(nullptr), {state}); }},
    {"dynamo_engine_error", 1,
     [](Chance &) { CHECK(dynamo_engine_error(DYNAMO_ERROR_ENGINE_FAILED, "no", "{") < 0); }},
    {"dynamo_stream_push", 12,
     [](Chance &chance) {
         dynamo_chunk_t chunk{};
         const std::uint32_t ids[] = {1, 2};
         chunk.struct_size = chance.one_in(20) ? 3 : sizeof chunk;
         chunk.text = "\xC3\xA4\xF0";
         chunk.text_length = chance.below(4);
         chunk.token_ids = chance.one_in(2) ? ids : nullptr;
         chunk.token_count = chance.below(3);
         chunk.index = chance.one_in(9);
         chunk.delta_json = chance.one_in(9) ? "{\"x\": [1]}" : chance.one_in(9) ? "[" : nullptr;
         chunk.finish_reason = chance.one_in(12) ? "stop" : nullptr;
         expect(dynamo_stream_push(of<dynamo_stream_t>(some(chance, streams)), &chunk),
                {stale, argument, DYNAMO_ERROR_CANCELLED, DYNAMO_ERROR_INVALID_JSON});
     }},
    {"dynamo_stream_push_many", 4,
     [](Chance &chance) {
         dynamo_chunk_t chunk{};
         chunk.struct_size = sizeof chunk;
         chunk.text = "a";
         chunk.text_length = 1;
         dynamo_push_t pushes[3] = {};
         for (dynamo_push_t &push : pushes) {
             push.stream = of<dynamo_stream_t>(some(chance, streams));
             push.chunk = chance.one_in(9) ? nullptr : &chunk;
         }
         expect(dynamo_stream_push_many(chance.one_in(9) ? nullptr : pushes, 3, sizeof pushes[0]),
                {argument});
     }},
    {"dynamo_stream_wait", 2,
     [](Chance &chance) {
         expect(dynamo_stream_wait(of<dynamo_stream_t>(some(chance, streams)), short_time(chance)),
                {stale, argument, DYNAMO_ERROR_CANCELLED});
     }},
    {"dynamo_stream_is_cancelled", 1,
     [](Chance &chance) {
         expect(dynamo_stream_is_cancelled(of<dynamo_stream_t>(some(chance, streams))), {stale});
     }},
    {"dynamo_stream_set_queued", 1,
     [](Chance &chance) {
         expect(dynamo_stream_set_queued(of<dynamo_stream_t>(some(chance, streams)),
                                         chance.one_in(2) ? 1 : 0),
                {stale});
     }},
    {"dynamo_stream_remaining", 1,
     [](Chance &chance) {
         std::int64_t left = 0;
         expect(dynamo_stream_remaining(of<dynamo_stream_t>(some(chance, streams)),
                                        chance.one_in(9) ? nullptr : &left),
                {stale, argument});
     }},
    {"dynamo_stream_finish", 3,
     [](Chance &chance) {
         expect(dynamo_stream_finish(of<dynamo_stream_t>(some(chance, streams)), "stop", nullptr),
                {stale});
     }},
    {"dynamo_stream_fail", 2,
     [](Chance &chance) {
         expect(
             dynamo_stream_fail(of<dynamo_stream_t>(some(chance, streams)),
                                chance.one_in(9) ? 1 : DYNAMO_ERROR_ENGINE_FAILED, "no", nullptr),
             {stale, argument});
     }},
};

// Calls a function whose objects need Python, with a handle of another type.
void with_a_wrong_handle(Chance &chance) {
    const call &one = calls[chance.below(call_count)];
    if (one.kind < TOKENIZER) {
        return;
    }
    current = one.name;
    void *const handle = requests.any(chance);
    // A NULL of these kinds repeats the error of a create function that this thread drew.
    if (handle == nullptr &&
        (one.null_is_fine || one.kind == CHAT || one.kind == JSON || one.kind == CREATION)) {
        return;
    }
    CHECK_STATUS(one.call(handle), DYNAMO_ERROR_INVALID_HANDLE);
}

void play(std::uint64_t seed, long calls) {
    Chance chance(seed);
    own_chance = &chance;
    unsigned weights = 0;
    for (const Operation &operation : operations) {
        weights += operation.weight;
    }
    for (long i = 0; i < calls; ++i) {
        if (chance.one_in(30)) {
            with_a_wrong_handle(chance);
            continue;
        }
        std::uint64_t at = chance.below(weights);
        for (const Operation &operation : operations) {
            if (at < operation.weight) {
                current = operation.name;
                operation.run(chance);
                break;
            }
            at -= operation.weight;
        }
    }
    calls_made += calls;
    own_chance = nullptr;
}

// Checks that every exported function is among those drawn, except functions that create objects that need Python.
void check_coverage(const char *file) {
    std::set<std::string> drawn = {"dynamo_tokenizer_create", "dynamo_worker_create",
                                   "dynamo_kv_publisher_create", "dynamo_router_create"};
    for (const Operation &operation : operations) {
        drawn.insert(operation.name);
    }
    for (std::size_t i = 0; i < call_count; ++i) {
        drawn.insert(calls[i].name);
    }
    std::ifstream exports(file);
    std::string name;
    long seen = 0;
    while (exports >> name) {
        ++seen;
        if (drawn.count(name) == 0) {
            std::fprintf(stderr, "%s is never drawn\n", name.c_str());
            CHECK(!"a function of the headers that is not among the operations");
        }
    }
    CHECK(seen > 50);
}

}  // namespace

int main(int count, char **words) {
    long calls_wanted = 50000;
    long threads = 4;
    std::uint64_t seed = 20261125;
    for (int i = 1; i + 1 < count; i += 2) {
        if (std::strcmp(words[i], "--calls") == 0) {
            calls_wanted = std::atol(words[i + 1]);
        } else if (std::strcmp(words[i], "--threads") == 0) {
            threads = std::atol(words[i + 1]);
        } else if (std::strcmp(words[i], "--seed") == 0) {
            seed = std::strtoull(words[i + 1], nullptr, 10);
        } else if (std::strcmp(words[i], "--exports") == 0) {
            check_coverage(words[i + 1]);
        } else {
            std::fprintf(stderr, "unknown: %s\n", words[i]);
            return 2;
        }
    }
    alarm(static_cast<unsigned>(300 + calls_wanted / 1000));
    std::fprintf(stderr, "  seed %" PRIu64 ", %ld calls, %ld threads\n", seed, calls_wanted,
                 threads);
    dynamo_log_set_callback(DYNAMO_LOG_OFF, nullptr, nullptr, nullptr);
    CHECK_STATUS(dynamo_engine_register("misuse", &engine(), nullptr, nullptr), DYNAMO_OK);
    std::vector<std::thread> players;
    for (long i = 0; i < threads; ++i) {
        players.emplace_back(play, seed + static_cast<std::uint64_t>(i), calls_wanted / threads);
    }
    for (std::thread &player : players) {
        player.join();
    }
    // Destroys everything, parents first.
    runtimes.each([](void *handle) { dynamo_runtime_destroy(of<dynamo_runtime_t>(handle)); });
    requests.each([](void *handle) { dynamo_request_destroy(of<dynamo_request_t>(handle)); });
    responses.each([](void *handle) { dynamo_free(handle); });
    queues.each([](void *handle) { dynamo_queue_destroy(of<dynamo_queue_t>(handle)); });
    creations.each([](void *handle) { dynamo_creation_destroy(of<dynamo_creation_t>(handle)); });
    chats.each([](void *handle) { dynamo_chat_destroy(of<dynamo_chat_t>(handle)); });
    texts.each([](void *handle) { dynamo_json_destroy(of<dynamo_json_t>(handle)); });
    streams.each(
        [](void *handle) { dynamo_stream_finish(of<dynamo_stream_t>(handle), nullptr, nullptr); });
    EVENTUALLY(callbacks_released == callbacks_set);
    // The library still works afterwards.
    dynamo_runtime_t *const runtime = start_echo();
    check_answer(sent(runtime, say("still here")), "still here", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
    std::fprintf(stderr, "  %ld calls, %ld callbacks\n", calls_made.load(), callbacks_set.load());
    RELIABILITY("a random call from one of several threads, with any handle", calls_made.load(),
                "a status that fits; each callback was released once");
    return 0;
}
