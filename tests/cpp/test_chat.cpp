// SPDX-License-Identifier: Apache-2.0
// Tool calls, reasoning, log-probs, and embeddings without JSON: the same as tests/c/test_chat.c, through the wrapper.
#include <cmath>

#include "dynamo_llm/engine.h"
#include "support.hpp"

using dynamo_llm::Logprob;
using dynamo_llm::ParsedJson;
using dynamo_llm::ToolCall;
using dynamo_llm::Vector;

static Runtime play(const char *script) {
    return MUST(Runtime::create(Config().engine("scripted").option("script", Json::raw(script))));
}

static void check_body(const Chat &chat, const char *expected) {
    CHECK_TEXT(chat.json().c_str(), expected);
}

static void tools_are_built() {
    Chat chat("x");
    chat.tool("now", "Tells the time.")
        .tool("add", "Adds.", {{"a", "number"}, {"b", "integer", "Second", false}})
        .tool("look", "Looks.", {{"city"}})
        .tool("raw", "Anything.", Json::raw("{\"type\": \"object\"}"));
    const ParsedJson read = MUST(ParsedJson::create(chat.json()));
    CHECK(MUST(read.count("/tools")) == 4);
    const std::string add = "/tools/1/function";
    CHECK(MUST(read.string(add + "/name")) == "add");
    CHECK(MUST(read.string(add + "/description")) == "Adds.");
    CHECK(MUST(read.string(add + "/parameters/properties/a/type")) == "number");
    CHECK(MUST(read.string(add + "/parameters/properties/b/description")) == "Second");
    CHECK(MUST(read.count(add + "/parameters/required")) == 1);
    CHECK(MUST(read.string("/tools/2/function/parameters/required/0")) == "city");
    CHECK(MUST(read.string("/tools/3/function/parameters/type")) == "object");
    (void)MUST(Request::create(chat));  // a valid body
    chat.set("tools", Json::array({})).set("messages", Json::array({}));
    check_body(chat, "{\"messages\": []}");
}

static void media_is_added() {
    const std::string bytes("\0\377\020", 3);
    check_body(Chat().user("What is it?",
                           {{"image/png", bytes}, {"audio/wav", "ab"}, {"image/svg+xml", "a"}}),
               "{\"messages\": [{\"role\": \"user\", \"content\": ["
               "{\"type\": \"image_url\", "
               "\"image_url\": {\"url\": \"data:image/png;base64,AP8Q\"}}, "
               "{\"type\": \"input_audio\", "
               "\"input_audio\": {\"data\": \"YWI=\", \"format\": \"wav\"}}, "
               "{\"type\": \"image_url\", "
               "\"image_url\": {\"url\": \"data:image/svg+xml;base64,YQ==\"}}, "
               "{\"type\": \"text\", \"text\": \"What is it?\"}]}]}");
    (void)MUST(Request::create(Chat().user("", {{"image/png", bytes}})));  // a valid body
}

static const char *const calls_script = R"([
    {"delta": {"reasoning_content": "Hm."}},
    {"delta": {"tool_calls": [{"index": 0, "id": "call-1", "type": "function",
                               "function": {"name": "temperature", "arguments": "{\"city\": "}}]}},
    {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"Oslo\"}"}}]}},
    {"finish": "tool_calls"}])";

static void check_calls(const Response &response) {
    const std::vector<ToolCall> calls = response.tool_calls();
    CHECK(calls.size() == 1);
    CHECK(calls[0].id == "call-1" && calls[0].name == "temperature");
    const ParsedJson arguments = MUST(ParsedJson::create(calls[0].arguments));
    CHECK(MUST(arguments.string("/city")) == "Oslo");
    CHECK(!MUST(arguments.string("/town")));
}

static void an_answer_continues_the_chat() {
    const Runtime runtime = play(calls_script);
    Chat chat("x");
    const Response whole = MUST(runtime.complete(chat, std::chrono::seconds(60)));
    check_calls(whole);
    CHECK(whole.reasoning() == "Hm." && whole.finish_reason() == "tool_calls");
    chat.answer(whole).tool_result("call-1", "4");
    const char *const body =
        R"({"messages": [{"role": "user", "content": "x"}, )"
        R"({"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": )"
        R"([{"id": "call-1", "type": "function", "function": {"name": "temperature", )"
        R"("arguments": "{\"city\": \"Oslo\"}"}}]}, )"
        R"({"role": "tool", "tool_call_id": "call-1", "content": "4"}]})";
    check_body(chat, body);
    (void)MUST(Request::create(chat));  // a valid body

    Chat streamed("x");
    std::string text;
    std::string reasoning;
    const Request request = MUST(runtime.send(streamed));
    for (Received received = request.next(); received; received = request.next()) {
        text += received.response.text();
        reasoning += received.response.reasoning();
        if (!received.response.finish_reason().empty()) {
            check_calls(received.response);
            streamed.assistant(text, received.response.tool_calls(), reasoning);
        } else {
            CHECK(received.response.tool_calls().empty());
        }
    }
    streamed.tool_result("call-1", "4");
    check_body(streamed, body);
}

static void an_answer_without_calls_is_a_text() {
    const Runtime runtime = start_cpp();
    Chat chat("a \"b\"");
    const Response whole = MUST(runtime.complete(chat));
    CHECK(whole.text() == "a \"b\"");
    CHECK(whole.tool_calls().empty() && whole.reasoning().empty());
    CHECK(whole.logprob_count() == 0 && whole.embedding_count() == 0);
    check_body(chat.answer(whole), R"({"messages": [{"role": "user", "content": "a \"b\""}, )"
                                   R"({"role": "assistant", "content": "a \"b\""}]})");
    CHECK(MUST(runtime.complete("{\"prompt\": \"p\"}")).text() == "p");
    CHECK(MUST(runtime.complete(std::string("{\"prompt\": \"p\"}"))).text() == "p");
    CHECK(MUST(runtime.complete(Completion("p"))).text() == "p");
    const Error refused = error_of([&] { return runtime.complete(Completion("p").set("x", 1)); });
    CHECK_STATUS(refused.status(), DYNAMO_ERROR_INVALID_REQUEST);
    const Error nul = error_of([&] { return runtime.complete(std::string("{\0}", 3)); });
    CHECK_STATUS(nul.status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    const Runtime stalled = play("[{\"stall\": true}]");
    const Error late = error_of([&] { return stalled.complete(chat, milliseconds(20)); });
    CHECK_STATUS(late.status(), DYNAMO_ERROR_DEADLINE_EXCEEDED);
}

static void logprobs() {
    const Runtime runtime = play(R"([
        {"text": "Hi", "token_ids": [7], "logprobs": {"content": [{"token": "Hi", "logprob": -0.5,
         "top_logprobs": [{"token": "Ho", "logprob": -2}]}]}}])");
    const Response whole = MUST(runtime.complete(Chat("x")));
    CHECK(whole.logprob_count() == 1);
    const Logprob token = MUST(whole.logprob(0));
    CHECK(token.text == "Hi" && std::abs(token.logprob + 0.5) < 1e-9);
    CHECK(token.token_id == 7U && token.alternative_count == 1);
    const Logprob other = MUST(whole.alternative(0, 0));
    CHECK(other.text == "Ho" && !other.token_id && other.alternative_count == 0);
    CHECK_STATUS(error_of([&] { return whole.logprob(1); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(error_of([&] { return whole.alternative(0, 1); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
}

static std::int32_t generate(void *, dynamo_stream_t *stream, const char *, const char *) {
    dynamo_chunk_t chunk{};
    chunk.struct_size = sizeof chunk;
    chunk.delta_json = R"({"data": [{"index": 0, "embedding": [0.5, -2]}]})";
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    return dynamo_stream_finish(stream, nullptr, nullptr);
}

static void embeddings() {
    dynamo_engine_t engine{};
    engine.struct_size = sizeof engine;
    engine.start = [](void *, const char *, void **) -> std::int32_t { return DYNAMO_OK; };
    engine.generate = generate;
    engine.cancel = [](void *, dynamo_stream_t *) {};
    engine.stop = [](void *) {};
    CHECK_STATUS(dynamo_engine_register("vectors", &engine, nullptr, nullptr), DYNAMO_OK);
    const Runtime runtime = MUST(Runtime::create(Config().engine("vectors")));
    const Response whole = MUST(runtime.complete(dynamo_llm::Embedding("x")));
    CHECK(whole.embedding_count() == 1);
    const Vector vector = MUST(whole.embedding(0));
    CHECK(vector.size() == 2 && vector[0] == 0.5F && vector[1] == -2);
    CHECK_STATUS(error_of([&] { return whole.embedding(1); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
}

static void parsed_json() {
    const ParsedJson read =
        MUST(ParsedJson::create(R"({"a": [1, 2.5, "x"], "t": true, "big": 9007199254740993})"));
    CHECK(MUST(read.type("")) == DYNAMO_JSON_OBJECT);
    CHECK(MUST(read.type("/b")) == DYNAMO_JSON_ABSENT);
    CHECK(MUST(read.count("/a")) == 3);
    CHECK(MUST(read.number("/a/1")) > 2.4 && MUST(read.number("/a/2", 7)) > 6);
    CHECK(MUST(read.integer("/big")) == 9007199254740993 && MUST(read.integer("/t", 3)) == 3);
    CHECK(MUST(read.boolean("/t")) && !MUST(read.boolean("/a")));
    CHECK(MUST(read.name("", 2)) == "t");
    CHECK_STATUS(error_of([&] { return read.name("/a", 0); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(error_of([&] { return read.string("a"); }).status(),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(error_of([] { return ParsedJson::create("{"); }).status(),
                 DYNAMO_ERROR_INVALID_JSON);
}

int main() {
    BEGIN();
    RUN(media_is_added);
    RUN(tools_are_built);
    RUN(an_answer_continues_the_chat);
    RUN(an_answer_without_calls_is_a_text);
    RUN(logprobs);
    RUN(embeddings);
    RUN(parsed_json);
    return 0;
}
