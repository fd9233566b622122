// SPDX-License-Identifier: Apache-2.0
// The builders write JSON that keeps values exactly, in every locale.
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <locale>

#include "support.hpp"

static void check_json(const Json &json, const char *expected) {
    CHECK_TEXT(json.text().c_str(), expected);
}

static void values() {
    check_json(nullptr, "null");
    check_json(true, "true");
    check_json(false, "false");
    check_json(-1, "-1");
    check_json(std::numeric_limits<std::int64_t>::min(), "-9223372036854775808");
    check_json(std::numeric_limits<std::uint64_t>::max(), "18446744073709551615");
    check_json("a", "\"a\"");
    check_json(std::string("a"), "\"a\"");
    check_json(std::string_view(), "\"\"");
    check_json(std::vector<int>{}, "[]");
    check_json(std::vector<bool>{true, false}, "[true, false]");
    check_json(std::vector<std::vector<std::string>>{{"a"}, {}, {"b", "c"}},
               "[[\"a\"], [], [\"b\", \"c\"]]");
    check_json(Json::array({1, "a", nullptr, Json::array({})}), "[1, \"a\", null, []]");
    check_json(Json::object({{"a", 1}, {"b", Json::object({})}, {"\"", "\\"}}),
               "{\"a\": 1, \"b\": {}, \"\\\"\": \"\\\\\"}");
}

static void texts_are_escaped() {
    check_json(std::string_view("\0\x01\x1f \x7f\n\t\"\\/", 10),
               "\"\\u0000\\u0001\\u001f \x7f\\u000a\\u0009\\\"\\\\/\"");
    check_json("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80",
               "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"");
    // Every byte survives the round trip.
    const Runtime runtime = start_cpp();
    std::string all;
    for (char c = 0; c >= 0 && c < 0x7f; ++c) {
        all += c;
    }
    all += "\x7f \xc2\x80 \xe2\x80\xa8 \xef\xbf\xbf \xf4\x8f\xbf\xbf";
    CHECK(whole_text(MUST(runtime.send(Completion(all)))) == all);
    CHECK(whole_text(MUST(runtime.send(Chat(all)))) == all);
}

static void what_is_not_utf8_is_an_error() {
    for (const char *text : {"\xff", "\xc3", "\xed\xa0\x80", "a\x80", "\xf8\x88\x80\x80\x80"}) {
        const Error error = error_of([&] { return Request::create(Completion(text)); });
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_JSON);
        CHECK_CONTAINS(error.what(), "line 1, column");
    }
}

static void numbers_keep_their_last_bit() {
    const double numbers[] = {0.1,
                              1.0 / 3,
                              -0.0,
                              1e300,
                              5e-324,
                              2.2250738585072014e-308,
                              1.7976931348623157e308,
                              123456789.123456789,
                              static_cast<double>(0.1f)};
    for (const double number : numbers) {
        const double back = std::strtod(Json(number).text().c_str(), nullptr);
        CHECK(std::memcmp(&back, &number, sizeof number) == 0);
    }
    check_json(0.1, "0.1");
    check_json(0.5f, "0.5");
}

static void no_number_is_no_json() {
    for (const double number : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
        const Error error =
            error_of([&] { return Request::create(Completion("a").temperature(number)); });
        CHECK_STATUS(error.status(), DYNAMO_ERROR_INVALID_JSON);
        CHECK_CONTAINS(error.what(), "line 1, column");
    }
}

// A locale that formats numbers as 0,5 and 1.000.
struct Commas : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
};
static void any_locale() {
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Commas));
    const bool has_german = std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr;
    std::fprintf(stderr, "    de_DE.UTF-8 is %s\n", has_german ? "there" : "not installed");
    check_json(0.5, "0.5");
    check_json(1234567.25, "1234567.25");
    check_json(1234567, "1234567");
    const Runtime runtime = start_cpp();
    CHECK(whole_text(MUST(runtime.send(Completion("a b c").temperature(0.5).max_tokens(2)))) ==
          "a b");
    std::locale::global(before);
    std::setlocale(LC_ALL, "C");
}

static void members_and_elements_are_added() {
    Json object = Json::raw(" { } \n");
    object.add("a", 1).add("b", Json::array({2}).push(3));
    check_json(object, " {\"a\": 1, \"b\": [2, 3]}");
    check_json(Json::raw("{\"a\": [1]}\n").add("b", 2), "{\"a\": [1], \"b\": 2}");
    check_json(Json::raw("[[]]").push("{"), "[[], \"{\"]");
    // add() on a value that is not an object yields invalid JSON, which the library rejects.
    for (const Json &base : {Json(1), Json::raw(""), Json("a"), Json::array({}), Json("{")}) {
        const std::string text = Json(base).add("prompt", "a").text();
        CHECK_STATUS(error_of([&] { return Request::create(text); }).status(),
                     DYNAMO_ERROR_INVALID_JSON);
    }
    for (const Json &base : {Json(1), Json::raw(""), Json("["), Json::object({})}) {
        const std::string text = Json(base).push("a").text();
        CHECK_STATUS(error_of([&] { return Request::create(text); }).status(),
                     DYNAMO_ERROR_INVALID_JSON);
    }
}

static void the_last_value_wins() {
    const Runtime runtime = start_cpp();
    CHECK(whole_text(MUST(runtime.send(Completion("a b c").max_tokens(1).max_tokens(2)))) == "a b");
    const Json said = Json::object({{"role", "user"}, {"content", "b"}});
    CHECK(whole_text(MUST(runtime.send(Chat("a").set("messages", Json::array({said}))))) == "b");
    CHECK(whole_text(MUST(runtime.send(
              Chat().set("messages", Json::array({said})).user("c").max_tokens(9)))) == "c");
    const std::string options =
        Config().option("a", 1).set("options", Json::object({{"b", 2}})).option("c", 3).json();
    CHECK_TEXT(options.c_str(), "{\"options\": {\"b\": 2, \"c\": 3}}");
    const Runtime twice =
        MUST(Runtime::create(Config().engine("nonsense").engine("echo").option("repeat", 3)));
    CHECK(whole_text(MUST(twice.send(Completion("a ")))) == "a a a ");
}

static void bodies() {
    CHECK_TEXT(Config().json().c_str(), "{}");
    CHECK_TEXT(Config().device("cuda:1").json().c_str(), "{\"device\": \"cuda:1\"}");
    CHECK_TEXT(Config().engine("e").model("m").stream(8, true).json().c_str(),
               "{\"engine\": \"e\", \"model\": \"m\", "
               "\"stream\": {\"capacity\": 8, \"when_full\": \"fail\"}}");
    CHECK_TEXT(Chat("q").system("s").assistant("a").json().c_str(),
               "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, "
               "{\"role\": \"system\", \"content\": \"s\"}, "
               "{\"role\": \"assistant\", \"content\": \"a\"}]}");
    CHECK_TEXT(Completion("p")
                   .model("m")
                   .temperature(0)
                   .top_p(0.5)
                   .seed(-1)
                   .stop({"x"})
                   .n(2)
                   .stream(false)
                   .json()
                   .c_str(),
               "{\"prompt\": \"p\", \"model\": \"m\", \"temperature\": 0, \"top_p\": 0.5, "
               "\"seed\": -1, \"stop\": [\"x\"], \"n\": 2, \"stream\": false}");
    CHECK_TEXT(Completion({0, 2}).json().c_str(), "{\"prompt\": [0, 2]}");
    CHECK_TEXT(Completion(std::vector<std::uint32_t>{7}).json().c_str(), "{\"prompt\": [7]}");
    CHECK_TEXT(Completion({"a", "b"}).json().c_str(), "{\"prompt\": [\"a\", \"b\"]}");
    CHECK_TEXT(Completion(std::vector<std::string>{"a"}).json().c_str(), "{\"prompt\": [\"a\"]}");
    CHECK_TEXT(Completion(std::vector<std::vector<std::uint32_t>>{{1, 2}, {3}}).json().c_str(),
               "{\"prompt\": [[1, 2], [3]]}");
    CHECK_TEXT(dynamo_llm::Embedding({"a", "b"}).json().c_str(), "{\"input\": [\"a\", \"b\"]}");
    CHECK_TEXT(dynamo_llm::Embedding("a").json().c_str(), "{\"input\": \"a\"}");
    CHECK(MUST(Request::create(dynamo_llm::Embedding({"a"}))));
    CHECK_TEXT(dynamo_llm::Rerank("q", {"a", "b"}).json().c_str(),
               "{\"query\": \"q\", \"documents\": [\"a\", \"b\"]}");
    CHECK_TEXT(dynamo_llm::Score("a", {"b"}).json().c_str(),
               "{\"text_1\": \"a\", \"text_2\": [\"b\"]}");
    CHECK_TEXT(dynamo_llm::Classify({"a"}).json().c_str(),
               "{\"task\": \"classify\", \"input\": [\"a\"]}");
    CHECK_TEXT(dynamo_llm::Respond("a").instructions("b").max_tokens(3).json().c_str(),
               "{\"task\": \"respond\", \"input\": \"a\", \"instructions\": \"b\", "
               "\"max_output_tokens\": 3}");
    CHECK(MUST(Request::create(dynamo_llm::Rerank("q", {"a"}))));
    CHECK(MUST(Request::create(dynamo_llm::Score("a", {"b"}))));
    CHECK(MUST(Request::create(dynamo_llm::Classify({"a"}))));
    CHECK(MUST(Request::create(dynamo_llm::Respond("a").max_tokens(3))));
}

int main() {
    BEGIN();
    RUN(values);
    RUN(texts_are_escaped);
    RUN(what_is_not_utf8_is_an_error);
    RUN(numbers_keep_their_last_bit);
    RUN(no_number_is_no_json);
    RUN(any_locale);
    RUN(members_and_elements_are_added);
    RUN(the_last_value_wins);
    RUN(bodies);
    return 0;
}
