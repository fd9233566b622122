/* SPDX-License-Identifier: Apache-2.0 */
/* Errors name what is wrong, where it is, and what would be right. */
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "support.h"

struct bad {
    const char *text;
    int32_t status;
    const char *part; /* of the message */
};

static const struct bad configs[] = {
    {"", DYNAMO_ERROR_INVALID_JSON, "line 1, column 1 (byte 0)"},
    {"{'engine': 'echo'", DYNAMO_ERROR_INVALID_JSON, "line 1, column 18 (byte 17)"},
    {"{\n  'engine': echo}", DYNAMO_ERROR_INVALID_JSON, "line 2, column 13"},
    {"{} {}", DYNAMO_ERROR_INVALID_JSON, "line 1, column 4"},
    {"{'engine': 'echo', 'options': {'repeat': 1e999}}", DYNAMO_ERROR_INVALID_JSON, "1e999"},
    {"[]", DYNAMO_ERROR_INVALID_CONFIG,
     "must be a JSON object like {\"key\": value}, not an array"},
    {"null", DYNAMO_ERROR_INVALID_CONFIG, "not null"},
    {"3", DYNAMO_ERROR_INVALID_CONFIG, "not an integer"},
    {"'echo'", DYNAMO_ERROR_INVALID_CONFIG, "not a string"},
    {"{'engnie': 'echo'}", DYNAMO_ERROR_INVALID_CONFIG, "did you mean \"engine\"?"},
    {"{'colour': 'red'}", DYNAMO_ERROR_INVALID_CONFIG, "known keys: engine, model"},
    {"{'engine': 3}", DYNAMO_ERROR_INVALID_CONFIG,
     "\"engine\" of the configuration must be a string or an object, "
     "not an integer"},
    {"{'engine': null}", DYNAMO_ERROR_INVALID_CONFIG, "not null"},
    {"{'engine': ''}", DYNAMO_ERROR_INVALID_CONFIG, "is empty"},
    {"{'model': ['a']}", DYNAMO_ERROR_INVALID_CONFIG, "not an array"},
    {"{'options': []}", DYNAMO_ERROR_INVALID_CONFIG, "must be an object, not an array"},
    {"{'stream': {'capactiy': 8}}", DYNAMO_ERROR_INVALID_CONFIG,
     "did you mean \"stream.capacity\"?"},
    {"{'stream': {'capacity': 0}}", DYNAMO_ERROR_INVALID_CONFIG, "from 1 to"},
    {"{'stream': {'capacity': -1}}", DYNAMO_ERROR_INVALID_CONFIG, "not -1"},
    {"{'stream': {'capacity': 18446744073709551615}}", DYNAMO_ERROR_INVALID_CONFIG, "from 1 to"},
    {"{'stream': {'capacity': 1.5}}", DYNAMO_ERROR_INVALID_CONFIG, "a number with a fraction"},
    {"{'stream': {'when_full': 'drop'}}", DYNAMO_ERROR_INVALID_CONFIG, "one of block, fail"},
    {"{'python': {'path': ['a', 1]}}", DYNAMO_ERROR_INVALID_CONFIG, "array of strings"},
    {"{'python': {'path': ['a\\u0000b']}}", DYNAMO_ERROR_INVALID_CONFIG,
     "NUL character: \"a\\u0000b"},
    {"{'python': {'executable': '/bin/sh\\u0000x'}}", DYNAMO_ERROR_INVALID_CONFIG, "NUL character"},
    {"{'engine': 'echo\\u0000x'}", DYNAMO_ERROR_INVALID_CONFIG, "\"engine\" of the configuration"},
    {"{'engine': 'echo', 'name': 'a\\u0000\\nb'}", DYNAMO_ERROR_INVALID_CONFIG, "NUL character"},
    {"{'model': '/etc\\u0000/x'}", DYNAMO_ERROR_INVALID_CONFIG, "NUL character"},
    {"{'engine': 'echo', 'mod\\u0000el': 'a'}", DYNAMO_ERROR_INVALID_CONFIG,
     "did you mean \"model\"?"},
    {"{'engine': 'echo', 'options': {'repaet': 1}}", DYNAMO_ERROR_INVALID_CONFIG,
     "did you mean \"options.repeat\"?"},
    {"{'engine': 'echo', 'options': {'repeat': 0}}", DYNAMO_ERROR_INVALID_CONFIG, "from 1 to"},
    {"{'engine': 'scripted', 'options': {'script': {}}}", DYNAMO_ERROR_INVALID_CONFIG, "array"},
    {"{'engine': 'scripted', 'options': {'script': [{'txt': 'a'}]}}", DYNAMO_ERROR_INVALID_CONFIG,
     "did you mean \"text\"?"},
    {"{'engine': 'scripted', 'options': {'start_error': {'status': 'MODEL_NOT_FOUND',"
     " 'message': 'no such model'}}}",
     DYNAMO_ERROR_MODEL_NOT_FOUND, "no such model"},
};

static const struct bad bodies[] = {
    {"", DYNAMO_ERROR_INVALID_JSON, "line 1, column 1"},
    {"{'prompt': 'a'", DYNAMO_ERROR_INVALID_JSON, "line 1, column 15"},
    {"[]", DYNAMO_ERROR_INVALID_REQUEST, "not an array"},
    {"{}", DYNAMO_ERROR_INVALID_REQUEST, "needs one of \"messages\""},
    {"{'mesages': []}", DYNAMO_ERROR_INVALID_REQUEST,
     "did you mean \"messages\" instead of \"mesages\"?"},
    {"{'prompt': 'a', 'input': 'b'}", DYNAMO_ERROR_INVALID_REQUEST, "only one of"},
    {"{'messages': [], 'prompt': 'a', 'input': 'b'}", DYNAMO_ERROR_INVALID_REQUEST, "only one of"},
    {"{'messages': []}", DYNAMO_ERROR_INVALID_REQUEST, "is empty"},
    {"{'messages': 'hi'}", DYNAMO_ERROR_INVALID_REQUEST, "must be an array, not a string"},
    {"{'messages': ['hi']}", DYNAMO_ERROR_INVALID_REQUEST, "\"messages[0]\""},
    {"{'messages': [{'content': 'hi'}]}", DYNAMO_ERROR_INVALID_REQUEST, "needs a string \"role\""},
    {"{'messages': [{'role': 'user', 'content': 'a'}, {'role': 'user'}]}",
     DYNAMO_ERROR_INVALID_REQUEST, "\"messages[1]\" of the request needs a \"content\""},
    {"{'prompt': 3}", DYNAMO_ERROR_INVALID_REQUEST, "a string or an array"},
    {"{'prompt': null}", DYNAMO_ERROR_INVALID_REQUEST, "not null"},
    {"{'prompt': 'a', 'max_token': 3}", DYNAMO_ERROR_INVALID_REQUEST,
     "unknown key \"max_token\" in the request; did you mean \"max_tokens\"?"},
    {"{'prompt': 'a', 'max_tokens': '3'}", DYNAMO_ERROR_INVALID_REQUEST,
     "an integer, not a string"},
    {"{'prompt': 'a', 'max_tokens': -1}", DYNAMO_ERROR_INVALID_REQUEST, "not -1"},
    {"{'prompt': 'a', 'max_tokens': 1.5}", DYNAMO_ERROR_INVALID_REQUEST, "an integer"},
    {"{'prompt': 'a', 'temperature': 2.5}", DYNAMO_ERROR_INVALID_REQUEST, "from 0 to 2, not 2.5"},
    {"{'prompt': 'a', 'top_p': -0.1}", DYNAMO_ERROR_INVALID_REQUEST, "from 0 to 1"},
    {"{'prompt': 'a', 'n': 0}", DYNAMO_ERROR_INVALID_REQUEST, "from 1 to 128"},
    {"{'prompt': 'a', 'stream_options': {'include_usage': 1}}", DYNAMO_ERROR_INVALID_REQUEST,
     "stream_options.include_usage"},
    {"{'prompt': 'a', 'stream_options': {'include': true}}", DYNAMO_ERROR_INVALID_REQUEST,
     "stream_options.include"},
    {"{'prompt': 'a', 'stream_options': {'continuous_usage_stats': true}}",
     DYNAMO_ERROR_NOT_SUPPORTED, "stream_options.continuous_usage_stats"},
    {"{'prompt': 'a', 'n': 129}", DYNAMO_ERROR_INVALID_REQUEST, "from 1 to 128"},
    {"{'prompt': 'a', 'stream': 'no'}", DYNAMO_ERROR_INVALID_REQUEST,
     "true or false, not a string"},
    {"{'prompt': 'a', 'stop': 3}", DYNAMO_ERROR_INVALID_REQUEST, "a string or an array"},
    {"{'prompt': 'a', 'stop': ['b', 3]}", DYNAMO_ERROR_INVALID_REQUEST, "\"stop[1]\""},
    {"{'prompt': 'a', 'stop': ['b', '']}", DYNAMO_ERROR_INVALID_REQUEST, "not empty"},
    {"{'prompt': 'a', 'stop': [null]}", DYNAMO_ERROR_INVALID_REQUEST, "not null"},
    {"{'prompt': 'a', 'stop': {'a': 1}}", DYNAMO_ERROR_INVALID_REQUEST, "a string or an array"},
    {"{'prompt': 'a', 'bad_words': [1]}", DYNAMO_ERROR_INVALID_REQUEST, "\"bad_words[0]\""},
    {"{'prompt': 'a', 'stop_token_ids': [-1]}", DYNAMO_ERROR_INVALID_REQUEST, "not -1"},
    {"{'prompt': 'a', 'stop_token_ids': [4294967296]}", DYNAMO_ERROR_INVALID_REQUEST,
     "from 0 to 4294967295"},
    {"{'prompt': 'a', 'allowed_token_ids': [1.0]}", DYNAMO_ERROR_INVALID_REQUEST,
     "a number with a fraction"},
    {"{'prompt': 'a', 'allowed_token_ids': [true]}", DYNAMO_ERROR_INVALID_REQUEST, "a boolean"},
    {"{'prompt': [1, -2]}", DYNAMO_ERROR_INVALID_REQUEST, "\"prompt[1]\""},
    {"{'prompt': [1.5]}", DYNAMO_ERROR_INVALID_REQUEST, "\"prompt[0]\""},
    {"{'prompt': [[1], [true]]}", DYNAMO_ERROR_INVALID_REQUEST, "\"prompt[1][0]\""},
    {"{'prompt': ['a', 3]}", DYNAMO_ERROR_INVALID_REQUEST, "\"prompt[1]\""},
    {"{'input': [null]}", DYNAMO_ERROR_INVALID_REQUEST, "\"input[0]\""},
    {"{'prompt': 'a', 'logit_bias': {'x': 1}}", DYNAMO_ERROR_INVALID_REQUEST, "not \"x\""},
    {"{'prompt': 'a', 'logit_bias': {'-1': 1}}", DYNAMO_ERROR_INVALID_REQUEST, "not \"-1\""},
    {"{'prompt': 'a', 'logit_bias': {'': 1}}", DYNAMO_ERROR_INVALID_REQUEST, "not \"\""},
    {"{'prompt': 'a', 'logit_bias': {'4294967296': 1}}", DYNAMO_ERROR_INVALID_REQUEST,
     "4294967296"},
    {"{'prompt': 'a', 'logit_bias': {'5': 100.5}}", DYNAMO_ERROR_INVALID_REQUEST, "not 100.5"},
    {"{'prompt': 'a', 'logit_bias': {'5': true}}", DYNAMO_ERROR_INVALID_REQUEST, "not a boolean"},
    {"{'prompt': 'a', 'logit_bias': [5]}", DYNAMO_ERROR_INVALID_REQUEST, "an object"},
    {"{'prompt': 'a', 'frequency_penalty': 2.5}", DYNAMO_ERROR_INVALID_REQUEST, "from -2 to 2"},
    {"{'prompt': 'a', 'temperature': true}", DYNAMO_ERROR_INVALID_REQUEST, "not a boolean"},
    {"{'prompt': 'a', 'max_tokens': true}", DYNAMO_ERROR_INVALID_REQUEST, "not a boolean"},
    {"{'prompt': 'a', 'max_tokens': 5.0}", DYNAMO_ERROR_INVALID_REQUEST, "an integer"},
    {"{'prompt': 'a', 'max_tokens': 4294967296}", DYNAMO_ERROR_INVALID_REQUEST, "not 4294967296"},
    {"{'prompt': 'a', 'max_tokens': 18446744073709551616}", DYNAMO_ERROR_INVALID_REQUEST,
     "a number of more than 64 bits"},
    {"{'prompt': 'a', 'n': 4294967297}", DYNAMO_ERROR_INVALID_REQUEST, "from 1 to 128"},
    {"{'prompt': 'a', 'top_k': -2}", DYNAMO_ERROR_INVALID_REQUEST, "not -2"},
    {"{'prompt': 'a', 'seed': 9223372036854775808}", DYNAMO_ERROR_INVALID_REQUEST,
     "from -9223372036854775808 to 9223372036854775807, not 9223372036854775808"},
    {"{'prompt': 'a', 'seed': -9223372036854775809}", DYNAMO_ERROR_INVALID_REQUEST, "64 bits"},
    {"{'prompt': 'a', 'priority': 2147483648}", DYNAMO_ERROR_INVALID_REQUEST, "not 2147483648"},
    {"{'prompt': 'a', 'priority': -9223372036854775808}", DYNAMO_ERROR_INVALID_REQUEST,
     "from -2147483648 to 2147483647, not -9223372036854775808"},
    {"{'prompt': 'a', 'nvext': {'agent_hints': {'priority': -9223372036854775808}}}",
     DYNAMO_ERROR_INVALID_REQUEST, "\"nvext.agent_hints.priority\""},
    {"{'prompt': 'a', 'nvext': {'agent_hints': {'priority': 18446744073709551615}}}",
     DYNAMO_ERROR_INVALID_REQUEST, "not 18446744073709551615"},
    {"{'prompt': 'a', 'nvext': {'agent_hints': {'priority': 1.5}}}", DYNAMO_ERROR_INVALID_REQUEST,
     "an integer"},
    {"{'prompt': 'a', 'nvext': {'agent_hints': 3}}", DYNAMO_ERROR_INVALID_REQUEST, "an object"},
    {"{'prompt': 'a', 'temperature': NaN}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a', 'temperature': -Infinity}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a', 'temperature': 1e400}", DYNAMO_ERROR_INVALID_JSON, "1e400"},
    {"{'prompt': 'a', 'temperature': -1e400}", DYNAMO_ERROR_INVALID_JSON, "-1e400"},
    {"{'prompt': 'a', 'temperature': 01}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a', 'temperature': .5}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a', 'temperature': 5.}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a', 'temperature': +1}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a', 'temperature': 0x1}", DYNAMO_ERROR_INVALID_JSON, "column"},
    {"{'prompt': 'a'} x", DYNAMO_ERROR_INVALID_JSON, "column 17"},
    {"{'prompt': 'a'}{}", DYNAMO_ERROR_INVALID_JSON, "column 16"},
    {"{'prompt': 'a',}", DYNAMO_ERROR_INVALID_JSON, "column 16"},
    {"/*x*/{'prompt': 'a'}", DYNAMO_ERROR_INVALID_JSON, "column 1"},
    {"{'prompt': 'a\nb'}", DYNAMO_ERROR_INVALID_JSON, "control character"},
    {"{'prompt': '\\ud800'}", DYNAMO_ERROR_INVALID_JSON, "surrogate"},
    {"{'prompt': '\\udc00\\ud800'}", DYNAMO_ERROR_INVALID_JSON, "surrogate"},
    {"{'input': 'a', 'encoding_format': 'hex'}", DYNAMO_ERROR_INVALID_REQUEST, "float, base64"},
    {"{'input': 'a', 'max_tokens': 3}", DYNAMO_ERROR_INVALID_REQUEST, "unknown key"},
};

static void *make_runtime(const char *text) {
    return dynamo_runtime_create(text);
}
static void *make_request(const char *text) {
    return dynamo_request_create(text);
}

static void check_bad(void *(*make)(const char *), const char *text, int32_t status,
                      const char *part) {
    CHECK(make(text) == NULL);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), part);
    CHECK(is_utf8(dynamo_last_error()) && is_utf8(dynamo_last_error_json()));
}

static void check_all(void *(*make)(const char *), const struct bad *all, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        char *text = json(all[i].text);
        check_bad(make, text, all[i].status, all[i].part);
        free(text);
    }
    check_bad(make, NULL, DYNAMO_ERROR_INVALID_ARGUMENT, "is NULL");
    check_bad(make, "{\"engine\": \"\xff\"}", DYNAMO_ERROR_INVALID_JSON, "line 1, column");
    check_bad(make, "{\"prompt\": \"\xc3\"}", DYNAMO_ERROR_INVALID_JSON, "line 1, column");
    check_bad(make, "\xef\xbb", DYNAMO_ERROR_INVALID_JSON, "line 1, column");
}

static void bad_configurations(void) {
    check_all(make_runtime, configs, sizeof configs / sizeof configs[0]);
}

static void bad_bodies(void) {
    check_all(make_request, bodies, sizeof bodies / sizeof bodies[0]);
}

static void long_keys_are_cut_between_code_points(void) {
    char body[1000] = "{\"prompt\": \"a\", \"x";
    for (int i = 0; i < 200; ++i) {
        strcat(body, "\xe2\x82\xac");
    }
    strcat(body, "\": 1}");
    check_bad(make_request, body, DYNAMO_ERROR_INVALID_REQUEST, "unknown key \"x\xe2\x82\xac");
}

static void check_depth(size_t depth) {
    char *text = malloc(depth + 32);
    CHECK(text != NULL);
    strcpy(text, "{\"metadata\": ");
    const size_t head = strlen(text);
    memset(text + head, '[', depth);
    text[head + depth] = '\0';
    check_bad(make_request, text, DYNAMO_ERROR_INVALID_JSON, "nested deeper than");
    memset(text, '[', head);
    check_bad(make_runtime, text, DYNAMO_ERROR_INVALID_JSON, "nested deeper than");
    free(text);
}

/* Some Windows editors write one at the start of a file. */
static void a_byte_order_mark(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("\xef\xbb\xbf{\"engine\": \"echo\"}");
    CHECK(runtime != NULL);
    check_answer(sent(runtime, ask("\xef\xbb\xbf{'prompt': 'a'}")), "a", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
    check_bad(make_runtime, "\xef\xbb\xbf{]", DYNAMO_ERROR_INVALID_JSON, "line 1, column");
    check_bad(make_runtime, "\xef\xbb\xbf\xef\xbb\xbf{}", DYNAMO_ERROR_INVALID_JSON,
              "byte order mark");
    check_bad(make_request, "\xef\xbb\xbf\xef\xbb\xbf{\"prompt\": \"a\"}",
              DYNAMO_ERROR_INVALID_JSON, "byte order mark");
    RELIABILITY("a byte order mark in front of a configuration or a body", 3, "it is left out");
}

static void check_data(const char *text, size_t length, int32_t status) {
    dynamo_request_t *request = dynamo_request_create_data(DYNAMO_DATA_JSON, text, length);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK((request != NULL) == (status == DYNAMO_OK));
    if (request != NULL) {
        dynamo_request_destroy(request);
    }
}

/* Otherwise, JSON parsers could disagree about where the text ends. */
static void nothing_comes_after_the_json(void) {
    check_data("1\0garbage", 9, DYNAMO_ERROR_INVALID_JSON);
    CHECK_CONTAINS(dynamo_last_error(), "(byte 1): a NUL byte");
    check_data("1\0", 2, DYNAMO_ERROR_INVALID_JSON);
    check_data("\0", 1, DYNAMO_ERROR_INVALID_JSON);
    check_data("{\"a\": \"b\0c\"}", 12, DYNAMO_ERROR_INVALID_JSON);
    check_data("", 0, DYNAMO_ERROR_INVALID_JSON);
    check_data("1 2", 3, DYNAMO_ERROR_INVALID_JSON);
    check_data(
        "\xef\xbb\xbf\xef\xbb\xbf"
        "1",
        7, DYNAMO_ERROR_INVALID_JSON);
    check_data(
        "\xef\xbb\xbf"
        "1",
        4, DYNAMO_OK);
    check_data("\"\xff\"", 3, DYNAMO_ERROR_INVALID_JSON);
    check_data("\"\xed\xa0\x80\"", 5, DYNAMO_ERROR_INVALID_JSON); /* half of a surrogate pair */
    check_data("\"\xc0\xaf\"", 4, DYNAMO_ERROR_INVALID_JSON);     /* overlong */
    check_data(" 1\n", 3, DYNAMO_OK);
    check_data("1e400", 5, DYNAMO_ERROR_INVALID_JSON);
    check_data("1e-400", 6, DYNAMO_OK);
    check_data("-0", 2, DYNAMO_OK);
    check_data("123456789012345678901234567890", 30, DYNAMO_OK);
    RELIABILITY(
        "data or a body has bytes after the JSON, a second byte order mark, or broken UTF-8", 12,
        "INVALID_JSON");
}

/* As in the JSON parsers of Python and Rust, which receive the same text. */
static void the_last_of_two_keys_counts(void) {
    check_bad(make_request, "{\"prompt\": \"a\", \"n\": 1, \"n\": 0}", DYNAMO_ERROR_INVALID_REQUEST,
              "from 1 to 128, not 0");
    dynamo_request_destroy(ask("{'prompt': 3, 'n': 0, 'n': 1, 'prompt': 'b'}"));
    dynamo_runtime_t *runtime = start(
        "{'engine': 'nope', 'options': {'repeat': 9}, 'engine': 'echo', "
        "'options': {'chunk_tokens': 1}}");
    check_answer(sent(runtime, ask("{'prompt': 'a', 'prompt': 'b'}")), "b", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
}

static void too_deep_nesting(void) {
    check_depth(200);
    check_depth(5000000);
    RELIABILITY("a configuration or a body is nested 200 or 5,000,000 levels deep", 4,
                "INVALID_JSON, without using the stack");
}

static void too_long_texts(void) {
    const size_t limit = (size_t)64 << 20;
    char *text = malloc(limit + 2);
    CHECK(text != NULL);
    memset(text, ' ', limit + 1);
    text[limit + 1] = '\0';
    memcpy(text, "{\"prompt\": \"a\"}", 15);
    check_bad(make_request, text, DYNAMO_ERROR_INVALID_JSON, "at most 67108864 (64 MiB)");
    check_bad(make_runtime, text, DYNAMO_ERROR_INVALID_JSON, "at most 67108864 (64 MiB)");
    text[limit] = '\0';
    dynamo_request_destroy(ask(text)); /* exactly at the limit */
    free(text);
    RELIABILITY("a configuration or a body of more than 64 MiB", 2,
                "INVALID_JSON, without reading it");
}

static void an_engine_that_does_not_exist(void) {
    CHECK(dynamo_runtime_create("{\"engine\": \"ehco\"}") == NULL);
    if (dynamo_last_status() == DYNAMO_ERROR_ENGINE_NOT_FOUND) {
        CHECK_CONTAINS(dynamo_last_error(), "\"ehco\"");
        CHECK_CONTAINS(dynamo_last_error(), "scripted");
        CHECK_CONTAINS(dynamo_last_error(), "did you mean \"echo\"?");
    } else { /* the search included Python */
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_PYTHON_UNAVAILABLE);
    }
}

static void what_the_native_engines_cannot_do(void) {
    dynamo_runtime_t *runtime = start_echo();
    static const char *const requests[] = {"{'input': 'a'}", "{'prompt': 'a', 'n': 2}",
                                           "{'prompt': [1, 2]}"};
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; ++i) {
        dynamo_request_t *request = ask(requests[i]);
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_NOT_SUPPORTED);
        CHECK_CONTAINS(dynamo_last_error_json(), "\"layer\":\"engine\",\"engine\":\"echo\"");
        dynamo_request_destroy(request);
    }
    CHECK(statistic(runtime, "in_flight") == 0 && statistic(runtime, "sent") == 0);
    dynamo_runtime_destroy(runtime);
}

static void echo_refuses_what_needs_a_model(void) {
    dynamo_runtime_t *runtime = start_echo();
    static const char *const refused[][2] = {
        {"tools", "[{'type': 'function', 'function': {'name': 'f'}}]"},
        {"tool_choice", "'required'"},
        {"logprobs", "true"},
        {"top_logprobs", "2"},
        {"response_format", "{'type': 'json_object'}"},
        {"guided_json", "{}"},
        {"guided_regex", "'a'"},
        {"guided_choice", "['a']"},
        {"stop", "['a']"},
        {"stop", "'a'"},
        {"stop_token_ids", "[1]"},
        {"logit_bias", "{'1': 5}"},
        {"min_tokens", "3"},
        {"adapter", "'lora'"},
        {"chat_template", "'x'"},
        {"continue_final_message", "true"},
    };
    char body[300];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; ++i) {
        snprintf(body, sizeof body, "{'messages': [{'role': 'user', 'content': 'a'}], '%s': %s}",
                 refused[i][0], refused[i][1]);
        dynamo_request_t *request = ask(body);
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_NOT_SUPPORTED);
        snprintf(body, sizeof body, "\"%s\" of the request is not supported by the engine \"echo\"",
                 refused[i][0]);
        CHECK_CONTAINS(dynamo_last_error(), body);
        dynamo_request_destroy(request);
    }
    static const char *const completions[] = {"'echo': true", "'suffix': 'b'", "'best_of': 2",
                                              "'logprobs': 0"};
    for (size_t i = 0; i < sizeof completions / sizeof *completions; ++i) {
        snprintf(body, sizeof body, "{'prompt': 'a', %s}", completions[i]);
        dynamo_request_t *request = ask(body);
        CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_NOT_SUPPORTED);
        dynamo_request_destroy(request);
    }
    dynamo_request_t *picture =
        ask("{'messages': [{'role': 'user', 'content': [{'type': 'image_url',"
            " 'image_url': {'url': 'data:,'}}, {'type': 'text', 'text': 'a'}]}]}");
    CHECK_STATUS(dynamo_request_send(runtime, picture), DYNAMO_ERROR_NOT_SUPPORTED);
    CHECK_CONTAINS(dynamo_last_error(), "a part of type \"image_url\"");
    dynamo_request_destroy(picture);
    /* Accepted: values that request nothing, and sampling parameters, which a deterministic answer satisfies. */
    check_answer(
        sent(runtime,
             ask("{'messages': [{'role': 'user', 'content': 'a b'}], 'tools': [],"
                 " 'tool_choice': 'auto', 'logprobs': false, 'top_logprobs': 0, 'stop': [],"
                 " 'response_format': {'type': 'text'}, 'logit_bias': {}, 'min_tokens': 0,"
                 " 'guided_regex': null, 'temperature': 1.5, 'top_p': 0.5, 'seed': 1}")),
        "a b", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
}

static void odd_but_valid_bodies_are_served(void) {
    dynamo_runtime_t *runtime = start_echo();
    check_answer(sent(runtime, ask("{'messages': [{'role': 'user', 'refusal': 'no'}]}")), "",
                 DYNAMO_END);
    check_answer(sent(runtime, ask("{'messages': [{'role': 'user', 'content': [1, {'type': 2},"
                                   " {'type': 'text', 'text': 3}, {'type': 'text', 'text': 'a'}]}],"
                                   " 'n': null, 'stop': null, 'max_tokens': null}")),
                 "a", DYNAMO_END);
    check_answer(sent(runtime, say("")), "", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
}

static void null_handles(void) {
    for (size_t i = 0; i < call_count; ++i) {
        if (calls[i].null_is_fine) {
            calls[i].call(NULL);
        } else {
            fprintf(stderr, "    %s\n", calls[i].name);
            CHECK_STATUS(calls[i].call(NULL), DYNAMO_ERROR_INVALID_HANDLE);
            CHECK_CONTAINS(dynamo_last_error(), "it is NULL");
        }
    }
}

static void a_tokenizer_needs_python(void) {
    CHECK(dynamo_tokenizer_create("[]") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_CONFIG); /* checked first */
    CHECK(dynamo_tokenizer_create("{}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_PYTHON_UNAVAILABLE);
    CHECK_CONTAINS(dynamo_last_error_json(), "\"layer\":\"embed\"");
}

static void null_and_out_of_range_arguments(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = say("a");
    CHECK_STATUS(dynamo_request_send(runtime, NULL), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_request_send(NULL, request), DYNAMO_ERROR_INVALID_HANDLE);
    static const int64_t deadlines[] = {0, -2, INT64_MIN};
    for (int i = 0; i < 3; ++i) {
        CHECK_STATUS(dynamo_request_set_deadlines(request, deadlines[i], -1),
                     DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_STATUS(dynamo_request_set_deadlines(request, -1, deadlines[i]),
                     DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    CHECK_STATUS(dynamo_request_set_deadlines(request, INT64_MAX, INT64_MAX), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_set_callback(request, NULL, NULL, NULL),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    sent(runtime, request);
    dynamo_response_t *response;
    CHECK_STATUS(dynamo_request_next(request, -2, &response), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_request_next(request, -1, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_request_next(request, INT64_MAX, &response), DYNAMO_OK);
    dynamo_usage_t usage = {8, 0, 0, 0};
    CHECK_STATUS(dynamo_response_usage(response, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_response_usage(response, &usage), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK(dynamo_response_text(response, NULL) != NULL);
    CHECK(dynamo_response_token_ids(response, NULL) != NULL);
    dynamo_free(response);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -2), DYNAMO_ERROR_INVALID_ARGUMENT);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void *fails_in_its_own_way(void *unused) {
    (void)unused;
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    CHECK_TEXT(dynamo_last_error(), "");
    CHECK(dynamo_request_create("{}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
    return NULL;
}

static void each_thread_has_its_last_error(void) {
    CHECK(dynamo_request_create(NULL) == NULL);
    join(spawn(fails_in_its_own_way, NULL));
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error_json(),
                   "{\"status\":-1,\"name\":\"DYNAMO_ERROR_INVALID_ARGUMENT\"");
    CHECK_CONTAINS(dynamo_last_error_json(), "\"layer\":\"core\"");
    CHECK_CONTAINS(dynamo_last_error_json(), "\"retriable\":false,\"fatal\":false");
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT); /* reading keeps the error */
    dynamo_request_t *request = say("a");
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    CHECK_TEXT(dynamo_last_error(), "");
    CHECK_TEXT(dynamo_last_error_json(), "{}");
    dynamo_request_destroy(request);
}

static void a_request_keeps_the_error_that_ended_it(void) {
    dynamo_runtime_t *runtime = start_script(
        "[{'text': 'a'}, {'error': {'status': 'CONTEXT_LENGTH', 'message': 'too \\'long\\''}}]");
    dynamo_request_t *request = say("a");
    CHECK(dynamo_request_error(request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    sent(runtime, request);
    dynamo_runtime_destroy(runtime);
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_ERROR_CONTEXT_LENGTH);
    CHECK_CONTAINS(dynamo_last_error(), "too \"long\"");
    answer_free(&whole);
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_ERROR_CONTEXT_LENGTH);
    CHECK_TEXT(dynamo_request_error(request), "too \"long\"");
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    const char *details = dynamo_request_error_json(request);
    CHECK_CONTAINS(details, "\"name\":\"DYNAMO_ERROR_CONTEXT_LENGTH\"");
    CHECK_CONTAINS(details, "\"layer\":\"engine\",\"engine\":\"scripted\",\"request_id\":\"req-");
    CHECK_CONTAINS(details, dynamo_request_id(request));
    dynamo_request_destroy(request);
}

static void names_of_status(void) {
    CHECK_TEXT(dynamo_status_name(DYNAMO_OK), "DYNAMO_OK");
    CHECK_TEXT(dynamo_status_name(DYNAMO_END), "DYNAMO_END");
    CHECK_TEXT(dynamo_status_name(DYNAMO_PENDING), "DYNAMO_PENDING");
    for (int32_t status = DYNAMO_ERROR_INTERNAL; status < 0; ++status) {
        CHECK_CONTAINS(dynamo_status_name(status), "DYNAMO_ERROR_");
    }
    CHECK_TEXT(dynamo_status_name(DYNAMO_ERROR_CANCELLED), "DYNAMO_ERROR_CANCELLED");
    CHECK_TEXT(dynamo_status_name(DYNAMO_ERROR_INTERNAL - 1), "DYNAMO_UNKNOWN_STATUS");
    CHECK_TEXT(dynamo_status_name(INT32_MAX), "DYNAMO_UNKNOWN_STATUS");
}

static void the_schema_names_the_keys(void) {
    const char *schema = dynamo_config_schema();
    CHECK_CONTAINS(schema, "https://json-schema.org/draft/2020-12/schema");
    CHECK_CONTAINS(schema, "\"when_full\"");
    CHECK(schema == dynamo_config_schema());
}

int main(void) {
    BEGIN();
    RUN(bad_configurations);
    RUN(bad_bodies);
    RUN(long_keys_are_cut_between_code_points);
    RUN(a_byte_order_mark);
    RUN(nothing_comes_after_the_json);
    RUN(the_last_of_two_keys_counts);
    RUN(too_deep_nesting);
    RUN(too_long_texts);
    RUN(an_engine_that_does_not_exist);
    RUN(what_the_native_engines_cannot_do);
    RUN(echo_refuses_what_needs_a_model);
    RUN(odd_but_valid_bodies_are_served);
    RUN(null_handles);
    RUN(a_tokenizer_needs_python);
    RUN(null_and_out_of_range_arguments);
    RUN(each_thread_has_its_last_error);
    RUN(a_request_keeps_the_error_that_ended_it);
    RUN(names_of_status);
    RUN(the_schema_names_the_keys);
    return 0;
}
