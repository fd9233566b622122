// SPDX-License-Identifier: Apache-2.0
// Random walks through the states of requests and runtimes, checked against a model of the headers' contract: the model
// predicts every status, text, and counter. The same thread also acts as the engine.
//
//     test_model [--walks N] [--seed N]
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

extern "C" {
#include "../c/support.h"
#include "dynamo_llm/engine.h"
}
#include "pool.hpp"

namespace {

constexpr std::size_t capacity = 4;  // tokens

struct ModelRuntime {
    dynamo_runtime_t *handle = nullptr;
    bool is_destroyed = false;
    bool is_shut = false;
    bool fails_when_full = false;
    // Named as in dynamo_runtime_statistics().
    long sent = 0, in_flight = 0, ended = 0, cancelled = 0, failed = 0, received = 0;
};

struct ModelRequest {
    dynamo_request_t *handle = nullptr;
    bool is_destroyed = false;
    bool is_sent = false;
    std::int32_t status = DYNAMO_PENDING;
    std::int32_t unsent = DYNAMO_ERROR_INVALID_STATE;  // result of a receive before it is sent
    ModelRuntime *runtime = nullptr;
    // What a receive would return now.
    std::string text;
    std::size_t tokens = 0;
    bool has_finish_reason = false;
    // State of the engine.
    dynamo_stream_t *stream = nullptr;
    bool has_stream = false;  // not finished yet
    bool obeys = false;       // finishes the stream as soon as it is cancelled

    bool is_readable() const { return tokens > 0 || has_finish_reason; }
};

std::array<ModelRuntime, 3> runtimes;
std::array<ModelRequest, 6> requests;
ModelRequest *sending = nullptr;
bool refuses = false;  // the engine rejects the request being sent
long steps = 0;

// ------------------------------------------------------------------------- the engine

void give_up(ModelRequest &request) {
    request.has_stream = false;
    --request.runtime->in_flight;
}

std::int32_t start_engine(void *, const char *, void **) {
    return DYNAMO_OK;
}

std::int32_t generate(void *, dynamo_stream_t *stream, const char *, const char *) {
    sending->stream = stream;
    return refuses ? dynamo_engine_error(DYNAMO_ERROR_OVERLOADED, "no", nullptr) : DYNAMO_OK;
}

void cancel(void *, dynamo_stream_t *stream) {
    for (ModelRequest &request : requests) {
        if (request.has_stream && request.stream == stream && request.obeys) {
            CHECK_STATUS(dynamo_stream_finish(stream, nullptr, nullptr), DYNAMO_OK);
            give_up(request);
        }
    }
}

void stop(void *) {}

const dynamo_engine_t &engine() {
    static const dynamo_engine_t functions = [] {
        dynamo_engine_t made{};
        made.struct_size = sizeof made;
        made.start = start_engine;
        made.generate = generate;
        made.cancel = cancel;
        made.stop = stop;
        return made;
    }();
    return functions;
}

// ------------------------------------------------------------------------- effects of a call

// Ends a request in the model, whatever the cause.
void end(ModelRequest &request, std::int32_t status) {
    if (request.status != DYNAMO_PENDING) {
        return;
    }
    request.status = status;
    if (request.is_sent) {
        long &counter = status == DYNAMO_END               ? request.runtime->ended
                        : status == DYNAMO_ERROR_CANCELLED ? request.runtime->cancelled
                                                           : request.runtime->failed;
        ++counter;
    }
}

dynamo_runtime_t *start_with(bool fails_when_full) {
    const std::string config = R"({"engine": "modelled", "stream": {"capacity": )" +
                               std::to_string(capacity) + R"(, "when_full": ")" +
                               (fails_when_full ? "fail" : "block") + R"("}})";
    return start(config.c_str());
}

void make_runtime(Chance &chance, ModelRuntime &runtime) {
    if (runtime.handle != nullptr && !runtime.is_destroyed) {
        return;
    }
    for (ModelRequest &request : requests) {
        if (request.runtime == &runtime) {
            return;  // it still counts in the previous runtime
        }
    }
    runtime = {};
    runtime.fails_when_full = chance.one_in(2);
    runtime.handle = start_with(runtime.fails_when_full);
}

void make_request(Chance &chance, ModelRequest &request) {
    if (request.handle != nullptr && !request.is_destroyed) {
        return;
    }
    if (request.has_stream) {
        return;  // the engine has not finished with it
    }
    request = {};
    request.obeys = chance.one_in(2);
    request.handle = say("x");
}

void send(Chance &chance, ModelRuntime &runtime, ModelRequest &request) {
    refuses = chance.one_in(4);
    const std::int32_t expected = runtime.is_destroyed || runtime.handle == nullptr ||
                                          request.is_destroyed || request.handle == nullptr
                                      ? DYNAMO_ERROR_INVALID_HANDLE
                                  : request.is_sent                  ? DYNAMO_ERROR_INVALID_STATE
                                  : request.status != DYNAMO_PENDING ? DYNAMO_ERROR_CANCELLED
                                  : runtime.is_shut                  ? DYNAMO_ERROR_CLOSED
                                  : refuses                          ? DYNAMO_ERROR_OVERLOADED
                                                                     : DYNAMO_OK;
    sending = &request;
    CHECK_STATUS(dynamo_request_send(runtime.handle, request.handle), expected);
    if (expected == DYNAMO_OK) {
        request.is_sent = request.has_stream = true;
        request.runtime = &runtime;
        ++runtime.sent;
        ++runtime.in_flight;
    } else if (!request.is_sent) {
        request.unsent = expected;
    }
}

void receive(ModelRequest &request) {
    dynamo_response_t *response = nullptr;
    const std::int32_t status = dynamo_request_next(request.handle, 0, &response);
    if (request.handle == nullptr || request.is_destroyed) {
        CHECK_STATUS(status, DYNAMO_ERROR_INVALID_HANDLE);
    } else if (!request.is_sent && request.status == DYNAMO_PENDING) {
        CHECK_STATUS(status, request.unsent);
    } else if (!request.is_readable()) {
        CHECK_STATUS(status, request.status);
    } else {
        CHECK_STATUS(status, DYNAMO_OK);
        CHECK_TEXT(dynamo_response_text(response, nullptr), request.text.c_str());
        const char *const reason = dynamo_response_finish_reason(response);
        CHECK((reason != nullptr) == request.has_finish_reason);
        request.runtime->received += static_cast<long>(request.tokens);
        request.text.clear();
        request.tokens = 0;
        request.has_finish_reason = false;
    }
    CHECK((response != nullptr) == (status == DYNAMO_OK));
    dynamo_free(response);
}

void push(Chance &chance, ModelRequest &request) {
    const std::size_t count = 1 + chance.below(3);
    const std::string text(count, static_cast<char>('a' + chance.below(26)));
    dynamo_chunk_t chunk{};
    chunk.struct_size = sizeof chunk;
    chunk.text = text.data();
    chunk.text_length = text.size();
    chunk.token_count = count;
    const std::int32_t status = dynamo_stream_push(request.stream, &chunk);
    if (!request.has_stream) {
        CHECK_STATUS(status, DYNAMO_ERROR_INVALID_HANDLE);
    } else if (request.is_destroyed || request.status != DYNAMO_PENDING) {
        CHECK_STATUS(status, DYNAMO_ERROR_CANCELLED);
    } else if (request.tokens < capacity) {
        CHECK_STATUS(status, DYNAMO_OK);
        request.text += text;
        request.tokens += count;
    } else if (request.runtime->fails_when_full) {
        CHECK_STATUS(status, DYNAMO_ERROR_CANCELLED);
        end(request, DYNAMO_ERROR_SLOW_CONSUMER);
    } else {
        CHECK_STATUS(status, DYNAMO_PENDING);
    }
}

void finish(Chance &chance, ModelRequest &request) {
    const bool well = chance.one_in(2);
    const std::int32_t status =
        well ? dynamo_stream_finish(request.stream, "length", nullptr)
             : dynamo_stream_fail(request.stream, DYNAMO_ERROR_UNAVAILABLE, "no", nullptr);
    if (!request.has_stream) {
        CHECK_STATUS(status, DYNAMO_ERROR_INVALID_HANDLE);
        return;
    }
    CHECK_STATUS(status, DYNAMO_OK);
    if (request.status == DYNAMO_PENDING) {
        request.has_finish_reason = well;
        end(request, well ? DYNAMO_END : DYNAMO_ERROR_UNAVAILABLE);
    }
    give_up(request);
}

void cancel_request(ModelRequest &request) {
    const bool is_there = request.handle != nullptr && !request.is_destroyed;
    // The engine's callback runs inside this call, and reads only has_stream.
    CHECK_STATUS(dynamo_request_cancel(request.handle),
                 is_there ? DYNAMO_OK : DYNAMO_ERROR_INVALID_HANDLE);
    if (is_there) {
        end(request, DYNAMO_ERROR_CANCELLED);
    }
}

void destroy_request(ModelRequest &request) {
    const bool was_there = request.handle != nullptr && !request.is_destroyed;
    dynamo_request_destroy(request.handle);
    CHECK_STATUS(dynamo_last_status(),
                 was_there || request.handle == nullptr ? DYNAMO_OK : DYNAMO_ERROR_INVALID_HANDLE);
    if (was_there) {
        end(request, DYNAMO_ERROR_CANCELLED);
        request.is_destroyed = true;
    }
}

void look(ModelRequest &request) {
    if (request.handle == nullptr || request.is_destroyed) {
        CHECK_STATUS(dynamo_request_status(request.handle), DYNAMO_ERROR_INVALID_HANDLE);
        CHECK(dynamo_request_error(request.handle) == nullptr);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
        CHECK(dynamo_request_id(request.handle) == nullptr);
        return;
    }
    CHECK_STATUS(dynamo_request_status(request.handle), request.status);
    CHECK((dynamo_request_error(request.handle) != nullptr) == (request.status < 0));
    CHECK((dynamo_request_error_json(request.handle) != nullptr) == (request.status < 0));
    CHECK_STATUS(dynamo_request_set_deadlines(request.handle, 100000, 100000),
                 request.is_sent ? DYNAMO_ERROR_INVALID_STATE : DYNAMO_OK);
    dynamo_timing_t timing{};
    timing.struct_size = sizeof timing;
    CHECK_STATUS(dynamo_request_timing(request.handle, &timing), DYNAMO_OK);
    CHECK((timing.queue_us >= 0) == request.is_sent);
    CHECK((timing.total_us >= 0) == (request.is_sent && request.status != DYNAMO_PENDING));
}

void look_at_stream(ModelRequest &request) {
    CHECK_STATUS(dynamo_stream_is_cancelled(request.stream),
                 !request.has_stream ? DYNAMO_ERROR_INVALID_HANDLE
                 : request.is_destroyed || request.status != DYNAMO_PENDING ? 1
                                                                            : 0);
    const std::int32_t status = dynamo_stream_wait(request.stream, 0);
    CHECK_STATUS(status, !request.has_stream                ? DYNAMO_ERROR_INVALID_HANDLE
                         : request.status != DYNAMO_PENDING ? DYNAMO_ERROR_CANCELLED
                         : request.tokens >= capacity       ? DYNAMO_PENDING
                                                            : DYNAMO_OK);
}

void shut_down(ModelRuntime &runtime) {
    if (runtime.handle == nullptr || runtime.is_destroyed) {
        CHECK_STATUS(dynamo_runtime_shutdown(runtime.handle, 0), DYNAMO_ERROR_INVALID_HANDLE);
        return;
    }
    // Finishes all streams first: shutdown would wait for them.
    for (ModelRequest &request : requests) {
        if (request.runtime == &runtime) {
            request.obeys = true;
            if (request.has_stream && request.status != DYNAMO_PENDING) {
                CHECK_STATUS(dynamo_stream_finish(request.stream, nullptr, nullptr), DYNAMO_OK);
                give_up(request);
            }
        }
    }
    // Before the call, in which the engine's callbacks finish streams.
    const std::int32_t expected =
        runtime.in_flight > 0 ? DYNAMO_ERROR_DEADLINE_EXCEEDED : DYNAMO_OK;
    CHECK_STATUS(dynamo_runtime_shutdown(runtime.handle, 0), expected);
    runtime.is_shut = true;
    for (ModelRequest &request : requests) {
        if (request.runtime == &runtime) {
            end(request, DYNAMO_ERROR_CANCELLED);
            CHECK(!request.has_stream);
        }
    }
}

void destroy_runtime(ModelRuntime &runtime) {
    const bool was_there = runtime.handle != nullptr && !runtime.is_destroyed;
    dynamo_runtime_destroy(runtime.handle);
    CHECK_STATUS(dynamo_last_status(),
                 was_there || runtime.handle == nullptr ? DYNAMO_OK : DYNAMO_ERROR_INVALID_HANDLE);
    runtime.is_destroyed = runtime.handle != nullptr;
}

void count(ModelRuntime &runtime) {
    if (runtime.handle == nullptr || runtime.is_destroyed) {
        CHECK(dynamo_runtime_statistics(runtime.handle) == nullptr);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
        return;
    }
    CHECK(statistic(runtime.handle, "sent") == runtime.sent);
    CHECK(statistic(runtime.handle, "in_flight") == runtime.in_flight);
    CHECK(statistic(runtime.handle, "ended") == runtime.ended);
    CHECK(statistic(runtime.handle, "cancelled") == runtime.cancelled);
    CHECK(statistic(runtime.handle, "failed") == runtime.failed);
    CHECK(statistic(runtime.handle, "received") == runtime.received);
}

// ------------------------------------------------------------------------- walks

void step(Chance &chance) {
    ModelRuntime &runtime = runtimes[chance.below(runtimes.size())];
    ModelRequest &request = requests[chance.below(requests.size())];
    switch (chance.below(40)) {
        case 0:
        case 1:
            return make_runtime(chance, runtime);
        case 2:
            return chance.one_in(3) ? destroy_runtime(runtime) : count(runtime);
        case 3:
            return chance.one_in(3) ? shut_down(runtime) : count(runtime);
        case 4:
        case 5:
        case 6:
            return make_request(chance, request);
        case 7:
            return destroy_request(request);
        case 8:
            return cancel_request(request);
        case 9:
        case 10:
            return finish(chance, request);
        case 11:
        case 12:
            return look(request);
        case 13:
        case 14:
            return look_at_stream(request);
        default:
            break;
    }
    switch (chance.below(3)) {
        case 0:
            return send(chance, runtime, request);
        case 1:
            return push(chance, request);
        default:
            return receive(request);
    }
}

void walk(std::uint64_t seed) {
    Chance chance(seed);
    for (int i = 0; i < 400; ++i, ++steps) {
        step(chance);
    }
    for (ModelRequest &request : requests) {
        if (request.has_stream) {
            finish(chance, request);
        }
        destroy_request(request);
        request = {};
    }
    for (ModelRuntime &runtime : runtimes) {
        count(runtime);
        destroy_runtime(runtime);
        runtime = {};
    }
}

}  // namespace

int main(int argument_count, char **arguments) {
    BEGIN();
    long walks = 2000;
    std::uint64_t seed = 1;
    for (int i = 1; i + 1 < argument_count; i += 2) {
        if (std::strcmp(arguments[i], "--walks") == 0) {
            walks = std::atol(arguments[i + 1]);
        } else if (std::strcmp(arguments[i], "--seed") == 0) {
            seed = std::strtoull(arguments[i + 1], nullptr, 10);
        } else {
            std::fprintf(stderr, "unknown: %s\n", arguments[i]);
            return 2;
        }
    }
    CHECK_STATUS(dynamo_engine_register("modelled", &engine(), nullptr, nullptr), DYNAMO_OK);
    for (long i = 0; i < walks; ++i) {
        if (i % 100 == 0) {
            std::fprintf(stderr, "  from seed %" PRIu64 "\n", seed);
        }
        walk(seed++);
    }
    RELIABILITY("a step of a random walk over the life of requests and runtimes", steps,
                "status, text and counters were a model's");
    return 0;
}
