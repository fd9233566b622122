// SPDX-License-Identifier: Apache-2.0
// Control calls, and engines in shared libraries, through the C++ wrapper.
#include "support.hpp"

#include "dynamo_llm/engine.h"

namespace {

std::int32_t start_engine(void *user, const char *, void **instance) {
    *instance = user;
    return DYNAMO_OK;
}

std::int32_t generate(void *, dynamo_stream_t *stream, const char *, const char *) {
    return dynamo_stream_finish(stream, "stop", nullptr);
}

void cancel(void *, dynamo_stream_t *stream) {
    dynamo_stream_finish(stream, nullptr, nullptr);
}

void stop_engine(void *) {}

const char *describe(void *) {
    return "{\"calls\": [\"repeat\", \"stall\"]}";
}

std::int32_t call(void *, dynamo_stream_t *stream, const char *, const char *name,
                  const char *arguments) {
    if (std::string_view(name) == "stall") {
        return DYNAMO_OK;
    }
    const dynamo_data_t data = {arguments, std::strlen(arguments), DYNAMO_DATA_JSON};
    dynamo_chunk_t chunk{};
    chunk.struct_size = sizeof chunk;
    chunk.data = &data;
    dynamo_stream_push(stream, &chunk);
    return dynamo_stream_finish(stream, nullptr, nullptr);
}

void register_engine() {
    static char instance;
    dynamo_engine_t engine{};
    engine.struct_size = sizeof engine;
    engine.start = start_engine;
    engine.generate = generate;
    engine.cancel = cancel;
    engine.stop = stop_engine;
    engine.describe = describe;
    engine.call = call;
    CHECK_STATUS(dynamo_engine_register("repeating", &engine, &instance, nullptr), DYNAMO_OK);
}

void a_call_returns_json() {
    const Runtime runtime = MUST(Runtime::create(Config().engine("repeating")));
    CHECK(MUST(runtime.call("repeat")) == "{}");
    CHECK(MUST(runtime.call("repeat", Json::object({{"a", 1}, {"b", "\"x\""}}))) ==
          "{\"a\":1,\"b\":\"\\\"x\\\"\"}");
    const Error late =
        error_of([&] { return runtime.call("stall", Json::raw("{}"), milliseconds(20)); });
    CHECK_STATUS(late.status(), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    const Error unknown = error_of([&] { return runtime.call("repaet"); });
    CHECK_STATUS(unknown.status(), DYNAMO_ERROR_NOT_SUPPORTED);
    CHECK_CONTAINS(unknown.what(), "did you mean \"repeat\"? Its calls: repeat, stall");
}

void an_engine_library_is_named_by_its_path() {
    const Error missing =
        error_of([] { return Runtime::create(Config().engine_library("/nowhere/libengine.so")); });
    CHECK_STATUS(missing.status(), DYNAMO_ERROR_ENGINE_NOT_FOUND);
    CHECK_CONTAINS(missing.what(), "\"/nowhere/libengine.so\" does not exist");
}

}  // namespace

int main() {
    BEGIN();
    register_engine();
    RUN(a_call_returns_json);
    RUN(an_engine_library_is_named_by_its_path);
}
