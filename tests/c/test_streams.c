/* SPDX-License-Identifier: Apache-2.0 */
/* Everything an engine pushes arrives complete, in order, and within the capacity, in every delivery mode. */
#include <stdlib.h>
#include <string.h>

#include "support.h"

static char *words(int count) {
    char *text = malloc((size_t)count * 8 + 1);
    CHECK(text != NULL);
    size_t at = 0;
    for (int i = 0; i < count; ++i) {
        at += (size_t)sprintf(text + at, "%sw%d", i == 0 ? "" : " ", i);
    }
    return text;
}

static void everything_comes_in_order(void) {
    dynamo_runtime_t *runtime = start_echo();
    char *prompt = words(10000);
    check_answer(sent(runtime, say(prompt)), prompt, DYNAMO_END);
    check_answer(sent(runtime, say("a\\n\\u20ac  \\ud83d\\ude00 ")),
                 "a\n\xe2\x82\xac  \xf0\x9f\x98\x80 ", DYNAMO_END);
    check_answer(sent(runtime, ask("{'messages': [{'role': 'system', 'content': 'x'},"
                                   " {'role': 'user', 'content': 'one two'}]}")),
                 "one two", DYNAMO_END);
    free(prompt);
    dynamo_runtime_destroy(runtime);
}

static void token_ids_usage_and_finish_reason(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = sent(runtime, ask("{'prompt': 'a b c', 'stream': false}"));
    dynamo_response_t *response = dynamo_request_recv(request);
    size_t count;
    const uint32_t *ids = dynamo_response_token_ids(response, &count);
    CHECK(count == 3 && ids[0] == 0 && ids[1] == 1 && ids[2] == 2);
    CHECK(dynamo_response_index(response) == 0);
    CHECK_TEXT(dynamo_response_finish_reason(response), "stop");
    dynamo_usage_t usage = {sizeof usage, 0, 0, 9};
    CHECK_STATUS(dynamo_response_usage(response, &usage), DYNAMO_OK);
    CHECK(usage.prompt_tokens == 3 && usage.completion_tokens == 3 && usage.cached_tokens == 0);
    /* A program built with a smaller struct gets only the members that fit. */
    dynamo_usage_t shorter = {offsetof(dynamo_usage_t, cached_tokens), 0, 0, 77};
    CHECK_STATUS(dynamo_response_usage(response, &shorter), DYNAMO_OK);
    CHECK(shorter.completion_tokens == 3 && shorter.cached_tokens == 77);
    dynamo_free(response);
    dynamo_request_destroy(request);

    request = sent(runtime, ask("{'prompt': 'a b c', 'max_tokens': 2}"));
    answer whole = receive_all(request);
    CHECK_TEXT(whole.text, "a b");
    CHECK_TEXT(whole.finish_reason, "length");
    CHECK(whole.has_usage && whole.usage.completion_tokens == 2 && whole.token_count == 2);
    answer_free(&whole);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);

    runtime = start_script(
        "[{'text': 'a', 'token_ids': [7, 4294967295]}, {'finish': 'content_filter'},"
        " {'text': 'never'}]");
    request = sent(runtime, say("x"));
    whole = receive_all(request);
    CHECK_TEXT(whole.text, "a");
    CHECK_TEXT(whole.finish_reason, "content_filter");
    CHECK(whole.token_count == 2);
    answer_free(&whole);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

/* Receives one response to a body and checks that its JSON contains the parts, in order. */
static void check_json(dynamo_runtime_t *runtime, const char *body, const char *const *parts) {
    dynamo_request_t *request = sent(runtime, ask(body));
    EVENTUALLY(dynamo_request_status(request) != DYNAMO_PENDING); /* so that one has it all */
    dynamo_response_t *response = dynamo_request_recv(request);
    const char *at = dynamo_response_json(response);
    CHECK(at != NULL && is_utf8(at));
    for (; *parts != NULL; ++parts) {
        char *part = json(*parts);
        CHECK_CONTAINS(at, part);
        at = strstr(at, part) + strlen(part);
        free(part);
    }
    CHECK_TEXT(at, "");
    dynamo_free(response);
    CHECK(dynamo_request_recv(request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    dynamo_request_destroy(request);
}

#define USAGE(prompt, completion, total)                                   \
    ",'usage':{'prompt_tokens':" prompt ",'completion_tokens':" completion \
    ",'total_tokens':" total ",'prompt_tokens_details':{'cached_tokens':0}}}"

static void json_of_responses(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'model': 'm'}");
    check_json(runtime, "{'messages': [{'role': 'user', 'content': 'a b'}]}",
               (const char *const[]){
                   "{'id':'chatcmpl-", "','object':'chat.completion.chunk','created':",
                   ",'model':'m','choices':[{'index':0,'delta':{'role':'assistant',"
                   "'content':'a b'},'logprobs':null,'finish_reason':'stop'}]" USAGE("2", "2", "4"),
                   NULL});
    check_json(runtime, "{'messages': [{'role': 'user', 'content': 'a b'}], 'stream': false}",
               (const char *const[]){
                   "{'id':'chatcmpl-", "','object':'chat.completion','created':",
                   ",'model':'m','choices':[{'index':0,'message':{'role':'assistant',"
                   "'content':'a b','refusal':null},'logprobs':null,'finish_reason':'stop'}]" USAGE(
                       "2", "2", "4"),
                   NULL});
    check_json(
        runtime, "{'prompt': 'a b', 'model': 'own'}",
        (const char *const[]){"{'id':'cmpl-", "','object':'text_completion','created':",
                              ",'model':'own','choices':[{'index':0,'text':'a b','logprobs':null,"
                              "'finish_reason':'stop'}]" USAGE("2", "2", "4"),
                              NULL});
    dynamo_runtime_destroy(runtime);
}

static void pieces_of_deltas_are_joined(void) {
    dynamo_runtime_t *runtime = start_script(
        "[{'delta': {'reasoning_content': 'Hm'}}, {'delta': {'reasoning_content': ' so'}},"
        " {'delta': {'tool_calls': [{'index': 0, 'id': 'c1', 'type': 'function', 'function':"
        "   {'name': 'f', 'arguments': '{'}}]}},"
        " {'delta': {'tool_calls': [{'index': 1, 'id': 'c2', 'function': {'name': 'g'}}]}},"
        " {'delta': {'tool_calls': [{'index': 0, 'function': {'arguments': '}'}}]}},"
        " {'logprobs': {'content': [{'token': 'a'}]}}, {'logprobs': {'content': [{'token': 'b'}]}},"
        " {'finish': 'tool_calls'}]");
    check_json(
        runtime, "{'messages': [{'role': 'user', 'content': 'a'}], 'stream': false}",
        (const char *const[]){"'message':{'role':'assistant','content':null,'refusal':null,"
                              "'reasoning_content':'Hm so',"
                              "'tool_calls':[{'function':{'arguments':'{}','name':'f'},'id':'c1',"
                              "'type':'function'},{'function':{'arguments':'','name':'g'},'id':'c2'"
                              ",'type':'function'}]},"
                              "'logprobs':{'content':[{'token':'a'},{'token':'b'}],'refusal':null},"
                              "'finish_reason':'tool_calls'}]" USAGE("1", "7", "8"),
                              NULL});
    dynamo_runtime_destroy(runtime);
}

enum { most_deltas = 4 };

/* Checks the tool calls of an answer that was pushed in these deltas. */
static void check_calls(const char *const pieces[most_deltas], const char *calls) {
    char script[2000] = "[";
    for (int i = 0; i < most_deltas && pieces[i] != NULL; ++i) {
        sprintf(script + strlen(script), "{'delta': {'tool_calls': [%s]}}, ", pieces[i]);
    }
    strcat(script, "{'finish': 'tool_calls'}]");
    dynamo_runtime_t *runtime = start_script(script);
    dynamo_request_t *request =
        sent(runtime, ask("{'messages': [{'role': 'user', 'content': 'a'}], 'stream': false}"));
    dynamo_response_t *response = dynamo_request_recv(request);
    char *expected = json(calls);
    CHECK_CONTAINS(dynamo_response_json(response), "\"content\":null");
    CHECK_CONTAINS(dynamo_response_json(response), expected);
    free(expected);
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

#define F_ "'function':{'arguments':'','name':'f'}"
#define G_ "'function':{'arguments':'','name':'g'}"
#define F_1 "'function':{'arguments':'1','name':'f'}"
#define G_2 "'function':{'arguments':'2','name':'g'}"
#define ONLY_1 "'function':{'arguments':'1'}"
#define ONLY_2 "'function':{'arguments':'2'}"

static void tool_calls_are_told_apart(void) {
    static const char *const ways[][most_deltas] = {
        /* the same index twice */
        {"{'index':0,'id':'a'," F_1 "}", "{'index':0,'id':'b'," G_2 "}"},
        /* the same index twice, split over deltas */
        {"{'index':0,'id':'a'," F_ "}", "{'index':0,'id':null," ONLY_1 "}",
         "{'index':0,'id':'b'," G_ "}", "{'index':0,'id':''," ONLY_2 "}"},
        /* no index */
        {"{'id':'a'," F_1 "}, {'id':'b'," G_2 "}"},
        /* id and name repeated in each delta */
        {"{'index':0,'id':'a'," F_ "}, {'index':1,'id':'b'," G_ "}", "{'index':0,'id':'a'," F_1 "}",
         "{'index':1,'id':'b'," G_2 "}"},
        /* indexes from 1 */
        {"{'index':1,'id':'a'," F_1 "}", "{'index':2,'id':'b'," G_2 "}"},
        /* interleaved */
        {"{'index':0,'id':'a'," F_ "}", "{'index':1,'id':'b'," G_ "}",
         "{'index':0," ONLY_1 "}, {'index':1," ONLY_2 "}"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
        check_calls(ways[i], "'tool_calls':[{" F_1 ",'id':'a','type':'function'},{" G_2
                             ",'id':'b','type':'function'}]");
    }
    /* Without ids, a name starts a new tool call. */
    static const char *const without_ids[][most_deltas] = {
        {"{" F_1 "}, {" G_2 "}"},
        {"{" F_1 "}", "{" G_2 "}"},
        {"{'index':0," F_1 "}", "{'index':0," G_2 "}"},
    };
    for (size_t i = 0; i < sizeof without_ids / sizeof *without_ids; ++i) {
        check_calls(without_ids[i], "'tool_calls':[{" F_1 ",'id':'','type':'function'},{" G_2
                                    ",'id':'','type':'function'}]");
    }
    /* Arguments given as an object are converted to a string. */
    static const char *const object[most_deltas] = {
        "{'id':'a','function':{'name':'f','arguments':{}}}"};
    check_calls(object, "'tool_calls':[{'function':{'arguments':'{}','name':'f'},'id':'a',");
}

static void reasoning_has_one_name(void) {
    static const char *const deltas[] = {
        "{'delta': {'reasoning': 'Hm'}}, {'delta': {'reasoning': ' so'}}",
        "{'delta': {'reasoning_content': 'Hm', 'reasoning': 'Hm'}},"
        " {'delta': {'reasoning_content': ' so', 'reasoning': ' so'}}",
        "{'delta': {'reasoning': 'Hm', 'reasoning_content': null}}, {'delta': {'reasoning': ' "
        "so'}}",
        "{'delta': {'reasoning': null}}, {'delta': {'reasoning_content': 'Hm so'}}",
    };
    for (size_t i = 0; i < sizeof deltas / sizeof *deltas; ++i) {
        char script[400];
        snprintf(script, sizeof script, "[%s]", deltas[i]);
        dynamo_runtime_t *runtime = start_script(script);
        dynamo_request_t *request =
            sent(runtime, ask("{'messages': [{'role': 'user', 'content': 'a'}], 'stream': false}"));
        dynamo_response_t *response = dynamo_request_recv(request);
        CHECK_CONTAINS(dynamo_response_json(response),
                       "\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null,"
                       "\"reasoning_content\":\"Hm so\"}");
        dynamo_free(response);
        dynamo_request_destroy(request);
        dynamo_runtime_destroy(runtime);
    }
}

/* Checks the usage in a stream's JSON: `last` in the last response, `others` (may be NULL) in all others. */
static void check_usage(const char *options, int responses, const char *last, const char *others) {
    dynamo_runtime_t *runtime = start_script("[{'text': 'a'}, {'delay_ms': 1}, {'text': 'b'}]");
    static const char *const kinds[] = {"'prompt': 'x'",
                                        "'messages': [{'role': 'user', 'content': 'x'}]"};
    for (int kind = 0; kind < 2; ++kind) {
        char body[200];
        snprintf(body, sizeof body, "{%s%s}", kinds[kind], options);
        dynamo_request_t *request = sent(runtime, ask(body));
        EVENTUALLY(dynamo_request_status(request) != DYNAMO_PENDING); /* so that one has it all */
        for (int i = 0; i < responses; ++i) {
            const int is_last = i == responses - 1;
            dynamo_response_t *response = dynamo_request_recv(request);
            const char *const expected = is_last ? last : others;
            if (expected == NULL) {
                CHECK(strstr(dynamo_response_json(response), "usage") == NULL);
            } else {
                CHECK_CONTAINS(dynamo_response_json(response), expected);
            }
            dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
            CHECK_STATUS(dynamo_response_usage(response, &usage),
                         is_last ? DYNAMO_OK : DYNAMO_PENDING);
            CHECK(usage.completion_tokens == (is_last ? 2 : 0));
            CHECK_TEXT(dynamo_response_text(response, NULL), i == 0 ? "ab" : "");
            CHECK((dynamo_response_finish_reason(response) == NULL) == (i == 1));
            CHECK(dynamo_response_index(response) == 0);
            dynamo_free(response);
        }
        CHECK(dynamo_request_recv(request) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
        dynamo_request_destroy(request);
    }
    dynamo_runtime_destroy(runtime);
}

static void usage_of_streams(void) {
    static const char own[] =
        "\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,";
    static const char with_last[] = "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,";
    check_usage(", 'stream_options': {'include_usage': true}", 2, own, "}],\"usage\":null}");
    check_usage(", 'stream_options': {'include_usage': false}", 1, NULL, NULL);
    check_usage(", 'stream_options': {'include_usage': null}", 1, with_last, NULL);
    check_usage(", 'stream_options': null", 1, with_last, NULL);
    check_usage("", 1, with_last, NULL);
    check_usage(", 'stream': false", 1, with_last, NULL);
    check_usage(", 'stream': false, 'stream_options': {'include_usage': true}", 1, with_last, NULL);
}

static void completions_have_deltas_in_their_choice(void) {
    dynamo_runtime_t *runtime = start_script(
        "[{'text': 'a'}, {'delta': {'own': {'n': 1}, 'text': 'not this', 'index': 7}}, {'finish': "
        "'stop'}]");
    check_json(
        runtime, "{'prompt': 'a', 'stream': false}",
        (const char *const[]){"'choices':[{'index':0,'own':{'n':1},'text':'a',"
                              "'logprobs':null,'finish_reason':'stop'}]" USAGE("1", "2", "3"),
                              NULL});
    dynamo_runtime_destroy(runtime);
}

/* Pushes the bytes, split after each byte whose bit in `cuts` is set. */
static void check_split(dynamo_runtime_t *runtime, const char *bytes, unsigned cuts,
                        const char *expected) {
    char script[400] = "[{'bytes': '";
    for (size_t i = 0; bytes[i] != '\0'; ++i) {
        sprintf(script + strlen(script), "%02x%s", (unsigned char)bytes[i],
                cuts >> i & 1 ? "'}, {'bytes': '" : "");
    }
    strcat(script, "'}]");
    check_answer(sent(runtime, say_script(script)), expected, DYNAMO_END);
}

static void code_points_are_never_split(void) {
    static const char *const texts[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                        "a\xc3\xa9y\xf0\x9f\x98\x80"};
    static const char *const capacities[] = {"1", "2", "3", "4096"};
    for (int c = 0; c < 4; ++c) { /* the capacity must not affect the text */
        char config[100];
        sprintf(config, "{'engine': 'scripted', 'stream': {'capacity': %s}}", capacities[c]);
        dynamo_runtime_t *runtime = start(config);
        for (int i = 0; i < 4; ++i) {
            for (unsigned cuts = 0; cuts < 1u << strlen(texts[i]); ++cuts) {
                check_split(runtime, texts[i], cuts, texts[i]);
            }
        }
        dynamo_runtime_destroy(runtime);
    }
    dynamo_runtime_t *runtime = start(
        "{'engine': 'scripted', 'stream':"
        " {'capacity': 1, 'when_full': 'fail'}}");
    check_split(runtime, "\xf0\x9f\x98\x80", 7, "\xf0\x9f\x98\x80");
    dynamo_runtime_destroy(runtime);
}

static void bytes_that_are_no_utf8_are_replaced(void) {
#define FFFD "\xef\xbf\xbd"
    static const struct {
        const char *bytes;
        const char *text;
    } all[] = {
        {"\xff", FFFD},
        {"\x80"
         "a",
         FFFD "a"},
        {"\xc3", FFFD},
        {"\xc3"
         "a",
         FFFD "a"},
        {"\xe2\x82", FFFD},
        {"\xe2\x82"
         "a",
         FFFD "a"},
        {"\xf0\x9f\x98"
         "\xc3\xa9",
         FFFD "\xc3\xa9"},
        {"\xc0\xaf", FFFD FFFD},
        {"\xed\xa0\x80", FFFD FFFD FFFD},
        {"\xf5\x80\x80\x80", FFFD FFFD FFFD FFFD},
        {"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD},
    };
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; ++i) {
        for (unsigned cuts = 0; cuts < 1u << strlen(all[i].bytes); ++cuts) {
            check_split(runtime, all[i].bytes, cuts, all[i].text);
        }
    }
    dynamo_runtime_destroy(runtime);
}

static void nul_bytes_are_bytes_like_others(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = sent(runtime, ask("{'prompt': 'a\\u0000b', 'stream': false}"));
    dynamo_response_t *response = dynamo_request_recv(request);
    size_t length;
    CHECK(memcmp(dynamo_response_text(response, &length), "a\0b", 4) == 0 && length == 3);
    CHECK_CONTAINS(dynamo_response_json(response), "a\\u0000b");
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void a_huge_chunk(void) {
    const size_t size = 8 << 20;
    char *prompt = malloc(size + 1);
    CHECK(prompt != NULL);
    memset(prompt, 'x', size);
    prompt[size] = '\0';
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'stream': {'capacity': 1}}");
    check_answer(sent(runtime, say(prompt)), prompt, DYNAMO_END);
    free(prompt);
    dynamo_runtime_destroy(runtime);
}

static void nothing_yet_and_the_end_again(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_request_t *request = sent(runtime, say_script("[{'text': 'a'}, {'stall': true}]"));
    dynamo_response_t *response;
    CHECK_STATUS(dynamo_request_next(request, -1, &response), DYNAMO_OK);
    dynamo_free(response);
    static const int64_t timeouts[] = {0, 1, 20};
    for (int i = 0; i < 3; ++i) {
        response = (dynamo_response_t *)request;
        CHECK_STATUS(dynamo_request_next(request, timeouts[i], &response), DYNAMO_PENDING);
        CHECK(response == NULL);
        CHECK_TEXT(dynamo_last_error(), "");
    }
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    dynamo_request_destroy(request);

    request = sent(runtime, say_script("[]"));
    CHECK_STATUS(dynamo_request_next(request, 100000, &response), DYNAMO_OK);
    CHECK_TEXT(dynamo_response_text(response, NULL), "");
    CHECK_TEXT(dynamo_response_finish_reason(response), "stop");
    dynamo_free(response);
    for (int i = 0; i < 3; ++i) {
        CHECK_STATUS(dynamo_request_next(request, i - 1, &response), DYNAMO_END);
        CHECK(dynamo_request_recv(request) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    }
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_END);
    CHECK(dynamo_request_error(request) == NULL);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

enum { shared_words = 50000 };
static dynamo_request_t *shared;
static counter seen[shared_words];

static void *read_shared(void *unused) {
    (void)unused;
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(shared)) != NULL) {
        size_t count;
        const uint32_t *ids = dynamo_response_token_ids(response, &count);
        for (size_t i = 0; i < count; ++i) {
            add(&seen[ids[i]], 1);
        }
        dynamo_free(response);
    }
    CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    return NULL;
}

static void several_readers_share_a_stream(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'stream': {'capacity': 16}}");
    char *prompt = words(shared_words);
    shared = say(prompt);
    sent(runtime, shared);
    pthread_t readers[4];
    for (int i = 0; i < 4; ++i) {
        readers[i] = spawn(read_shared, NULL);
    }
    for (int i = 0; i < 4; ++i) {
        join(readers[i]);
    }
    for (int i = 0; i < shared_words; ++i) {
        CHECK(get(&seen[i]) == 1);
    }
    dynamo_request_destroy(shared);
    free(prompt);
    dynamo_runtime_destroy(runtime);
}

static void a_full_stream_makes_the_engine_wait(void) {
    dynamo_runtime_t *runtime = start(
        "{'engine': 'echo', 'options': {'chunk_tokens': 3,"
        " 'repeat': 2000}, 'stream': {'capacity': 8}}");
    dynamo_request_t *request = sent(runtime, say("ab "));
    dynamo_request_t *at_once = sent(runtime, ask("{'prompt': 'ab ', 'stream': false}"));
    EVENTUALLY(dynamo_request_status(at_once) ==
               DYNAMO_END); /* the capacity limits only streaming bodies */
    EVENTUALLY(statistic(runtime, "full") > 0);
    CHECK(statistic(runtime, "pushed") - 4000 == 9); /* 3 + 3, and 3 more because 6 < 8 */
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    CHECK(whole.length == 6000 && whole.token_count == 4000 && whole.largest <= 10);
    answer_free(&whole);
    whole = receive_all(at_once);
    CHECK(whole.length == 6000 && whole.responses == 1);
    answer_free(&whole);
    CHECK(statistic(runtime, "received") == 8000);
    dynamo_request_destroy(request);
    dynamo_request_destroy(at_once);
    dynamo_runtime_destroy(runtime);
}

static void a_full_stream_fails_the_request_if_told_so(void) {
    dynamo_runtime_t *runtime = start(
        "{'engine': 'echo', 'options': {'repeat': 1000000},"
        " 'stream': {'capacity': 5, 'when_full': 'fail'}}");
    dynamo_request_t *request = sent(runtime, say("a"));
    EVENTUALLY(dynamo_request_status(request) == DYNAMO_ERROR_SLOW_CONSUMER);
    answer whole = receive_all(request);
    CHECK_TEXT(whole.text, "aaaaa");
    CHECK_STATUS(whole.status, DYNAMO_ERROR_SLOW_CONSUMER);
    CHECK_TEXT(whole.finish_reason, "");
    CHECK_CONTAINS(dynamo_request_error(request), "stream.capacity");
    CHECK_CONTAINS(dynamo_request_error_json(request), "\"retriable\":true");
    answer_free(&whole);
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(statistic(runtime, "failed") == 1 && statistic(runtime, "full") == 1);
    dynamo_runtime_destroy(runtime);
}

static void an_error_comes_after_what_came_before_it(void) {
    dynamo_runtime_t *runtime = start_script(
        "[{'text': 'ab', 'repeat': 3},"
        " {'error': {'message': 'lost'}}]");
    dynamo_request_t *request = sent(runtime, say("x"));
    EVENTUALLY(dynamo_request_status(request) == DYNAMO_ERROR_ENGINE_FAILED);
    for (int i = 0; i < 2; ++i) {
        answer whole = receive_all(request);
        CHECK_TEXT(whole.text, i == 0 ? "ababab" : "");
        CHECK_STATUS(whole.status, DYNAMO_ERROR_ENGINE_FAILED);
        CHECK_TEXT(dynamo_last_error(), "lost");
        answer_free(&whole);
    }
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void deadlines(void) {
    static const struct {
        const char *script;
        int64_t first;
        int64_t total;
        int32_t status;
    } all[] = {
        {"[{'stall': true}]", 20, -1, DYNAMO_ERROR_DEADLINE_EXCEEDED},
        {"[{'stall': true}]", -1, 20, DYNAMO_ERROR_DEADLINE_EXCEEDED},
        {"[{'delay_ms': 1e9}, {'text': 'a'}]", 20, 1000000, DYNAMO_ERROR_DEADLINE_EXCEEDED},
        {"[{'text': 'a'}, {'stall': true}]", -1, 20, DYNAMO_ERROR_DEADLINE_EXCEEDED},
        {"[{'text': 'a'}, {'delay_ms': 1500}, {'text': 'b'}]", 1000, 100000, DYNAMO_END},
        {"[{'delta': {'x': 'a'}}, {'delay_ms': 1500}]", 1000, 100000, DYNAMO_END},
        {"[{'text': 'a'}]", 100000, 100000, DYNAMO_END},
    };
    enum { count = sizeof all / sizeof all[0] };
    dynamo_runtime_t *runtimes[count];
    dynamo_request_t *requests[count];
    for (int i = 0; i < count; ++i) {
        runtimes[i] = start_script(all[i].script);
        requests[i] = say("x");
        CHECK_STATUS(dynamo_request_set_deadlines(requests[i], all[i].first, all[i].total),
                     DYNAMO_OK);
        sent(runtimes[i], requests[i]);
    }
    for (int i = 0; i < count; ++i) {
        answer whole = receive_all(requests[i]);
        CHECK_STATUS(whole.status, all[i].status);
        answer_free(&whole);
        if (whole.status < 0) {
            CHECK_CONTAINS(dynamo_request_error(requests[i]), "20 ms after the request was sent");
            CHECK_CONTAINS(dynamo_request_error(requests[i]),
                           all[i].first == 20 ? "to the first token" : "to the end");
        }
        dynamo_request_destroy(requests[i]);
        CHECK_STATUS(dynamo_runtime_shutdown(runtimes[i], -1), DYNAMO_OK);
        dynamo_runtime_destroy(runtimes[i]);
    }
}

int main(void) {
    BEGIN();
    RUN(everything_comes_in_order);
    RUN(token_ids_usage_and_finish_reason);
    RUN(json_of_responses);
    RUN(pieces_of_deltas_are_joined);
    RUN(tool_calls_are_told_apart);
    RUN(reasoning_has_one_name);
    RUN(usage_of_streams);
    RUN(completions_have_deltas_in_their_choice);
    RUN(code_points_are_never_split);
    RUN(bytes_that_are_no_utf8_are_replaced);
    RUN(nul_bytes_are_bytes_like_others);
    RUN(a_huge_chunk);
    RUN(nothing_yet_and_the_end_again);
    RUN(several_readers_share_a_stream);
    RUN(a_full_stream_makes_the_engine_wait);
    RUN(a_full_stream_fails_the_request_if_told_so);
    RUN(an_error_comes_after_what_came_before_it);
    RUN(deadlines);
    return 0;
}
