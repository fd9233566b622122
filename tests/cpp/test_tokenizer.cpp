// SPDX-License-Identifier: Apache-2.0
// The tokenizer of the demo model: results, ownership, and errors, thrown and returned.
#include <thread>
#include <vector>

#include "support.hpp"

static_assert(sizeof(Tokenizer) == sizeof(void *) && sizeof(Detokenizer) == sizeof(void *));

template <class Object>
constexpr bool is_move_only =
    std::is_nothrow_move_constructible_v<Object> && std::is_nothrow_move_assignable_v<Object> &&
    !std::is_copy_constructible_v<Object> && !std::is_copy_assignable_v<Object>;
static_assert(is_move_only<Tokenizer> && is_move_only<Detokenizer>);
static_assert(!std::is_convertible_v<dynamo_tokenizer_t *, Tokenizer> &&
              !std::is_convertible_v<std::string, Tokenizer>);

using Ids = std::vector<std::uint32_t>;

static const Ids question_ids = {432, 289, 262, 399, 397, 35};

static Tokenizer open_demo() {
    return MUST(Tokenizer::create());
}

static void there_and_back() {
    const Tokenizer tokenizer = open_demo();
    CHECK(MUST(tokenizer.encode("What is a KV cache?")) == question_ids);
    CHECK(MUST(tokenizer.encode("", false)).empty());
    CHECK(MUST(tokenizer.decode(question_ids)) == "What is a KV cache?");
    CHECK(MUST(tokenizer.decode(TokenIds(question_ids.data(), 1))) == "What");
    CHECK(MUST(tokenizer.decode({0, 432})) == "What");
    CHECK(MUST(tokenizer.decode({0, 432}, false)) == "<|end|>What");
    CHECK(MUST(tokenizer.decode(Ids())).empty());
    const std::string_view nul("a\0b", 3);
    CHECK(MUST(tokenizer.decode(MUST(tokenizer.encode(nul)))) == nul);
    CHECK(contains(MUST(tokenizer.info()), "\"vocabulary_size\":2048"));
}

static void a_template_makes_a_prompt() {
    const Tokenizer tokenizer = open_demo();
    const std::string prompt = MUST(tokenizer.apply_template(Chat("What is a KV cache?")));
    CHECK(prompt == "<|begin|><|user|>What is a KV cache?<|end|><|assistant|>");
    const Ids ids = MUST(tokenizer.encode(prompt, false));
    CHECK(ids.size() == question_ids.size() + 4 && ids.front() == 1 && ids.back() == 4);
    CHECK(MUST(tokenizer.apply_template(Chat("a").set("add_generation_prompt", false))) ==
          "<|begin|><|user|>a<|end|>");
    CHECK_STATUS(error_of([&] { return tokenizer.apply_template("{\"prompt\": \"a\"}"); }).status(),
                 DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_CONTAINS(
        error_of([&] { return tokenizer.apply_template(std::string("{}\0", 3)); }).what(),
        "chat_json has a NUL byte at position 2");
}

static void text_comes_bit_by_bit() {
    const Tokenizer tokenizer = open_demo();
    const std::string text = "h\xc3\xa9llo \xf0\x9f\x98\x80 w\xc3\xb6rld";
    const Ids ids = MUST(tokenizer.encode(text));
    const Detokenizer detokenizer = MUST(tokenizer.detokenizer());
    std::string whole;
    for (const std::uint32_t id : ids) {
        const std::string piece = MUST(detokenizer.add(id));
        CHECK(is_utf8(piece.c_str()));
        whole += piece;
    }
    CHECK(whole == text && MUST(detokenizer.finish()).empty());
    CHECK(MUST(detokenizer.add(ids)) == text && MUST(detokenizer.finish()).empty());
    CHECK(MUST(detokenizer.add({0, 432})) == "What");
    const Detokenizer all = MUST(tokenizer.detokenizer(false));
    CHECK(MUST(all.add({0, 432})) == "<|end|>What");
}

static void errors_have_details() {
    const Tokenizer tokenizer = open_demo();
    const Error error = error_of([&] { return tokenizer.decode({1, 9999}); });
    CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(error.what(), "ids[1] is 9999");
    CHECK_CONTAINS(error_of([&] { return tokenizer.encode("a\xff"); }).what(), "its byte 1");
    const Error missing = error_of([] { return Tokenizer::create(Config().model("/no/such")); });
    CHECK_STATUS(missing.status(), DYNAMO_ERROR_MODEL_NOT_FOUND);
    CHECK_CONTAINS(missing.json().c_str(), "\"engine\":\"tokenizer\"");
    CHECK_CONTAINS(error_of([] { return Tokenizer::create(std::string("{}\0", 3)); }).what(),
                   "config_json has a NUL byte at position 2");
    CHECK_STATUS(error_of([] { return Tokenizer::create(Config().engine("echo")); }).status(),
                 DYNAMO_ERROR_INVALID_CONFIG);
    const Tokenizer none(nullptr);  // calls on it repeat the error of the last failed create
    CHECK(!none);
    CHECK_STATUS(error_of([&] { return none.encode("a"); }).status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_STATUS(error_of([&] { return none.info(); }).status(), DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_STATUS(error_of([&] { return none.detokenizer(); }).status(),
                 DYNAMO_ERROR_INVALID_CONFIG);
    CHECK_STATUS(error_of([] { return Detokenizer().finish(); }).status(),
                 DYNAMO_ERROR_INVALID_CONFIG);
}

static void handles_move_and_children_outlive_parents() {
    Tokenizer first = open_demo();
    dynamo_tokenizer_t *const handle = first.get();
    Tokenizer second = std::move(first);
    CHECK(!first && second && second.get() == handle);
    const Detokenizer detokenizer = MUST(second.detokenizer());
    second = Tokenizer(nullptr);
    CHECK(dynamo_tokenizer_info(handle) == nullptr);
    CHECK(MUST(detokenizer.add(question_ids)) == "What is a KV cache?");
    Tokenizer third = open_demo();
    dynamo_tokenizer_t *const released = third.release();
    char *const info = dynamo_tokenizer_info(released);
    CHECK(!third && info != nullptr);
    dynamo_free(info);
    third = Tokenizer(released);
    CHECK(MUST(third.encode("What")) == Ids{432});
}

static void threads_share_it() {
    const Tokenizer tokenizer = open_demo();
    std::vector<std::thread> threads;
    for (int number = 0; number < 4; ++number) {
        threads.emplace_back([&tokenizer, number] {
            for (int round = 0; round < 20; ++round) {
                const std::string text = std::to_string(number) + " is " + std::to_string(round);
                CHECK(MUST(tokenizer.decode(MUST(tokenizer.encode(text)))) == text);
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
}

int main() {
    BEGIN();
    RUN(there_and_back);
    RUN(a_template_makes_a_prompt);
    RUN(text_comes_bit_by_bit);
    RUN(errors_have_details);
    RUN(handles_move_and_children_outlive_parents);
    RUN(threads_share_it);
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    CHECK(Tokenizer().encode("What") == Ids{432});
    CHECK(Tokenizer("{}").get() != Tokenizer(Config()).get());
#endif
    return 0;
}
