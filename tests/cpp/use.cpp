// SPDX-License-Identifier: Apache-2.0
// Instantiates every template of the wrapper once, to check it for compiler warnings.
#include "dynamo_llm.hpp"

#if defined(DYNAMO_LLM_NO_EXCEPTIONS) == defined(__cpp_exceptions)
#error "the header misjudges whether exceptions are on"
#endif

namespace {

using namespace dynamo_llm;

template <class T>
T value(Result<T> result) {
    return std::move(result).value();
}
template <class T>
T value(T &&plain) {
    return std::move(plain);
}

[[maybe_unused]] std::size_t use_everything() {
    const Runtime runtime = value(Runtime::create(
        Config().engine("echo").model("m").option("a", 0.5f).stream(8).set("python", nullptr)));
    (void)runtime.statistics();
    (void)runtime.shutdown(std::chrono::minutes(1));
    Request request = value(Request::create(Chat("a").top_p(0.5).stop({"a", "b"}).n(2)));
    (void)request.set_deadlines(std::chrono::seconds(1), std::chrono::duration<double>(1.5));
    (void)request.set_callback([](const Received &) {});
    (void)runtime.send(request);
    (void)value(runtime.send(Embedding({"a", "b"}))).fd();
    (void)value(runtime.send(Completion({1, 2}))).next(std::chrono::nanoseconds(1)).has_ended();
    std::size_t size = 0;
    for (const Response &response : request) {
        size +=
            response.text().size() + response.token_ids().size() + value(response.json()).size();
        size += response.usage().value_or(Usage()).cached_tokens;
    }
    if (const std::optional<Error> error = request.error()) {
        size += error->message().size() + (error->is_fatal() ? 1 : 0);
    }
    Chat chat("a");
    chat.tool("t", "d", {{"p"}, {"q", "integer", "e", false}}).tool("u", "d", Json::raw("{}"));
    const Response whole = value(runtime.complete(chat, std::chrono::seconds(1)));
    chat.answer(whole).tool_result("1", "r");
    size += whole.reasoning().size() + whole.tool_calls().size() + whole.logprob_count();
    size += value(whole.logprob(0)).text.size() + value(whole.alternative(0, 0)).text.size();
    size += whole.embedding_count() + value(whole.embedding(0)).size();
    const ParsedJson parsed = value(ParsedJson::create(value(whole.json())));
    size += value(parsed.string("/id")).value_or("").size() + value(parsed.count(""));
    size += value(parsed.name("", 0)).size() + (value(parsed.boolean("/a")) ? 1 : 0);
    size += static_cast<std::size_t>(value(parsed.number("/n")) + value(parsed.type("")));
    size += static_cast<std::size_t>(value(parsed.integer("/created")));
    const Tokenizer tokenizer = value(Tokenizer::create(Config().model("m")));
    const std::vector<std::uint32_t> ids = value(tokenizer.encode("a", false));
    size += value(tokenizer.decode(ids)).size() + value(tokenizer.decode(TokenIds())).size();
    size += value(tokenizer.apply_template(Chat("a"))).size() + value(tokenizer.info()).size();
    const Detokenizer detokenizer = value(tokenizer.detokenizer());
    size += value(detokenizer.add(ids)).size() + value(detokenizer.add(1u)).size();
    size += value(detokenizer.finish()).size();
    (void)set_log(DYNAMO_LOG_INFO, [](std::int32_t, std::string_view, std::string_view) {});
    (void)set_log(DYNAMO_LOG_OFF);
    size +=
        Json::array({1, 'a', 2.5, "b", std::vector<bool>{true}, nullptr}).push(1u).text().size();
    size += Json::object({{"a", Json::raw("1")}}).add("b", std::string("c")).text().size();
    return size;
}

#if defined(DYNAMO_LLM_HAS_STOP_TOKEN)
[[maybe_unused]] void use_stop_token(const Request &request, std::stop_token token) {
    const auto bound = request.cancel_on(std::move(token));
}
#endif

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
[[maybe_unused]] Task use_coroutine(Request sent) {
    AsyncRequest request(std::move(sent), InlineExecutor());
    while (auto received = co_await request.next()) {
    }
}
#endif

}  // namespace
