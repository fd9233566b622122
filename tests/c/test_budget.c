/* SPDX-License-Identifier: Apache-2.0 */
/* Limits on the cost of one request: a request over a limit is rejected when it is sent, before an engine sees it. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* An engine with empty answers. A body that contains "hold" runs until it is cancelled. */
static counter taken;

static int32_t quiet_start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t quiet_generate(void *instance, dynamo_stream_t *stream, const char *id,
                              const char *body) {
    (void)instance;
    (void)id;
    add(&taken, 1);
    return strstr(body, "hold") != NULL ? DYNAMO_OK : dynamo_stream_finish(stream, "stop", NULL);
}

static void quiet_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    dynamo_stream_finish(stream, NULL, NULL);
}

static void quiet_stop(void *instance) {
    (void)instance;
}

static const char *quiet_describe(void *instance) {
    return instance;
}

static const dynamo_engine_t quiet = {
    .struct_size = sizeof quiet,
    .start = quiet_start,
    .generate = quiet_generate,
    .cancel = quiet_cancel,
    .stop = quiet_stop,
    .describe = quiet_describe,
};

/* Returns `before`, `count` copies of `piece` separated by `between`, and `after`, with ' replaced by ". free() it. */
static char *repeated(const char *before, const char *piece, const char *between, size_t count,
                      const char *after) {
    const size_t size = strlen(before) + count * (strlen(piece) + strlen(between)) + strlen(after);
    char *const text = malloc(size + 1);
    CHECK(text != NULL);
    char *end = text;
#define APPEND(what)                                         \
    for (const char *from = (what); *from != '\0'; ++from) { \
        *end++ = *from == '\'' ? '"' : *from;                \
    }
    APPEND(before);
    for (size_t i = 0; i < count; ++i) {
        if (i > 0) {
            APPEND(between);
        }
        APPEND(piece);
    }
    APPEND(after);
#undef APPEND
    *end = '\0';
    return text;
}

static void check_refused(dynamo_runtime_t *runtime, const char *body, int32_t status,
                          const char *message) {
    const long before = get(&taken);
    dynamo_request_t *const request = dynamo_request_create(body);
    CHECK(request != NULL);
    CHECK_STATUS(dynamo_request_send(runtime, request), status);
    CHECK_CONTAINS(dynamo_last_error(), message);
    CHECK(get(&taken) == before);
    dynamo_request_destroy(request);
}

static void check_taken(dynamo_runtime_t *runtime, const char *body) {
    dynamo_request_t *const request = dynamo_request_create(body);
    CHECK(request != NULL);
    check_answer(sent(runtime, request), "", DYNAMO_END);
}

/* --- grammars --- */

typedef struct bad_grammar {
    const char *value; /* value of the key under test */
    const char *limit; /* the limit that it exceeds */
} bad_grammar;

static const bad_grammar schemas[] = {
    {"{'type': 'array', 'minItems': 1000000000, 'items': {'type': 'integer'}}", "repetitions"},
    {"{'type': 'array', 'maxItems': 1e9}", "repetitions"},
    {"{'type': 'object', 'minProperties': 1000000000}", "repetitions"},
    {"{'type': 'string', 'minLength': 4000000000}", "repetitions"},
    {"{'properties': {'a': {'anyOf': [{'type': 'array', 'minItems': 10000000}]}}}", "repetitions"},
    {"{'type': 'string', 'pattern': '^(a{1000}){1000}$'}", "repetitions"},
    {"{'patternProperties': {'^a{100000}$': {}}}", "repetitions"},
    {"{'type': 'integer', 'multipleOf': 1000003}", "multiples"},
    {"{'allOf': [{'multipleOf': 1009}, {'multipleOf': 10.13}]}", "multiples"},
    {"{'x-guidance': {'item_separator': ',( {100000})?'}}", "repetitions"},
    {"'{\\'type\\': \\'array\\', \\'minItems\\': 1000000000}'", "repetitions"},
};

static void check_schemas(dynamo_runtime_t *runtime, const char *before, const char *after) {
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; ++i) {
        char limit[64];
        snprintf(limit, sizeof limit, "\"limits.request.grammar_%s\"", schemas[i].limit);
        char *const body = repeated(before, schemas[i].value, "", 1, after);
        check_refused(runtime, body, DYNAMO_ERROR_INVALID_REQUEST, limit);
        free(body);
    }
}

static void a_schema_that_asks_for_too_much(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'quiet'}");
    static const char *const ways[][2] = {
        {"{'prompt': 'a', 'guided_json': ", "}"},
        {"{'prompt': 'a', 'structured_outputs': {'json': ", "}}"},
        {"{'prompt': 'a', 'response_format': {'type': 'json_object', 'schema': ", "}}"},
        {"{'prompt': 'a', 'response_format': {'type': 'json_schema', 'json_schema': {'name': 'a', "
         "'schema': ",
         "}}}"},
        {"{'messages': [{'role': 'user', 'content': 'a'}], 'tools': [{'type': 'function', "
         "'function': {'name': 'f', 'strict': true, 'parameters': ",
         "}}]}"},
        {"{'messages': [{'role': 'user', 'content': 'a'}], 'functions': [{'name': 'f', "
         "'parameters': ",
         "}]}"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
        check_schemas(runtime, ways[i][0], ways[i][1]);
    }
    /* The grammar counts once per choice. */
    check_refused(runtime, "{\"prompt\": \"a\", \"n\": 100, \"guided_json\": {\"minItems\": 1000}}",
                  DYNAMO_ERROR_INVALID_REQUEST, "amount to 100000 parts");
    check_taken(runtime,
                "{\"prompt\": \"a\", \"n\": 4, \"guided_json\": {\"minItems\": 1000, "
                "\"properties\": {\"a\": {\"multipleOf\": 0.25, \"maxLength\": 65536}}}}");
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a JSON Schema asks for too many repetitions, in each key that takes one",
                (long long)(sizeof schemas / sizeof *schemas * (sizeof ways / sizeof *ways)),
                "INVALID_REQUEST, before an engine sees it");
}

/* Returns a chain of definitions, each of which refers to the next. */
static char *chain(size_t count, const char *format) {
    const size_t size = count * (strlen(format) + 40) + 200;
    char *const text = malloc(size);
    CHECK(text != NULL);
    size_t at = (size_t)snprintf(
        text, size, "{\"prompt\": \"a\", \"guided_json\": {\"$ref\": \"#/$defs/d0\", \"$defs\": {");
    for (size_t i = 0; i < count; ++i) {
        char next[32];
        snprintf(next, sizeof next, "#/$defs/d%zu", i + 1);
        at += (size_t)snprintf(text + at, size - at, "\"d%zu\": ", i);
        for (const char *from = format; *from != '\0'; ++from) {
            if (*from == '@') {
                at += (size_t)snprintf(text + at, size - at, "\"%s\"", next);
            } else {
                text[at++] = *from == '\'' ? '"' : *from;
            }
        }
        text[at++] = ',';
    }
    snprintf(text + at, size - at, "\"d%zu\": {\"type\": \"null\"}}}}", count);
    return text;
}

static void references_that_lead_far(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'quiet'}");
    static const char *const links[] = {
        "{'$ref': @}",
        "{'type': 'object', 'properties': {'a': {'$ref': @}}}",
        "{'type': 'array', 'items': {'anyOf': [{'type': 'null'}, {'$ref': @}]}}",
        "{'type': 'object', 'properties': {'a': {'$ref': @}, 'b': {'$ref': '#/$defs/d0'}}}",
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; ++i) {
        char *const shallow = chain(20, links[i]);
        check_taken(runtime, shallow);
        free(shallow);
        char *const deep = chain(2000, links[i]);
        /* Long enough to exceed the byte limit as well, which is reported first. */
        check_refused(runtime, deep, DYNAMO_ERROR_INVALID_REQUEST, "\"limits.request.grammar_");
        free(deep);
        char *const middle = chain(400, links[i]);
        check_refused(runtime, middle, DYNAMO_ERROR_INVALID_REQUEST,
                      "\"limits.request.grammar_depth\"");
        free(middle);
    }
    /* Each level refers to the next one twice: 2^20 copies. */
    char *const copies = chain(
        20, "{'properties': {'a': {'$ref': @, 'minimum': 1}, 'b': {'$ref': @, 'maximum': 9}}}");
    check_refused(runtime, copies, DYNAMO_ERROR_INVALID_REQUEST,
                  "\"limits.request.grammar_repetitions\"");
    free(copies);
    check_taken(runtime, "{\"prompt\": \"a\", \"guided_json\": {\"$ref\": \"#\"}}");
    check_taken(runtime, "{\"prompt\": \"a\", \"guided_json\": {\"$ref\": \"#/$defs/none\"}}");
    dynamo_runtime_destroy(runtime);
    RELIABILITY("references of a JSON Schema lead through hundreds of definitions, or double", 9,
                "INVALID_REQUEST, before an engine sees it");
}

static void expressions_and_grammars_that_ask_for_too_much(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'quiet'}");
    static const bad_grammar regexes[] = {
        {"'a{1,1000000000}'", "repetitions"},
        {"'((a{1,1000}){1,1000}){1,1000}'", "repetitions"},
        {"'(?:[ab]{200}c){200}'", "repetitions"},
        {"'a{100}{100}{100}'", "repetitions"},
        {"'\\\\p{L}{100000}'", "repetitions"},
        {"'x{99999999999999999999}'", "repetitions"},
    };
    static const bad_grammar grammars[] = {
        {"'start: \\'a\\'{1000000000}'", "repetitions"},
        {"'start: (\\'a\\' | \\'b\\')~1..100000'", "repetitions"},
        {"'start: A\\nA: /a{1000000}/'", "repetitions"},
        {"'start: %json {\\'type\\': \\'array\\', \\'minItems\\': 100000}'", "repetitions"},
        {"'root ::= [a-z]{1,1000000}'", "repetitions"},
    };
    static const char *const keys[][2] = {{"guided_%s", "}"}, {"structured_outputs': {'%s", "}}"}};
    for (size_t key = 0; key < 2; ++key) {
        for (int is_grammar = 0; is_grammar < 2; ++is_grammar) {
            const bad_grammar *const all = is_grammar ? grammars : regexes;
            const size_t count =
                (is_grammar ? sizeof grammars : sizeof regexes) / sizeof(bad_grammar);
            for (size_t i = 0; i < count; ++i) {
                char name[64];
                char before[128];
                snprintf(name, sizeof name, keys[key][0], is_grammar ? "grammar" : "regex");
                snprintf(before, sizeof before, "{'prompt': 'a', '%s': ", name);
                char *const body = repeated(before, all[i].value, "", 1, keys[key][1]);
                check_refused(runtime, body, DYNAMO_ERROR_INVALID_REQUEST,
                              "\"limits.request.grammar_repetitions\"");
                free(body);
            }
        }
    }
    /* Many rules, and deeply nested rules. */
    char *body = repeated("{'prompt': 'a', 'guided_grammar': '", "r: a\\n", "", 1000, "'}");
    check_refused(runtime, body, DYNAMO_ERROR_INVALID_REQUEST, "\"limits.request.grammar_rules\"");
    free(body);
    body = repeated("{'prompt': 'a', 'guided_regex': '", "(", "", 5000, "'}");
    check_refused(runtime, body, DYNAMO_ERROR_INVALID_REQUEST, "\"limits.request.grammar_depth\"");
    free(body);
    body = repeated("{'prompt': 'a', 'guided_regex': '", "ab", "", 100000, "'}");
    check_refused(runtime, body, DYNAMO_ERROR_INVALID_REQUEST, "\"limits.request.grammar_bytes\"");
    free(body);
    /* Text that looks like a repetition, but is not one. */
    check_taken(runtime,
                "{\"prompt\": \"a\", \"guided_regex\": "
                "\"\\\\{1000000\\\\}|\\\\x{1F600}|a{,b}|\\\\d{4}-\\\\d{2}\"}");
    check_taken(
        runtime,
        "{\"prompt\": \"a\", \"guided_grammar\": \"start: \\\"{1000000}\\\" // a{99999}\\n\"}");
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a regular expression or a grammar asks for too many repetitions", 25,
                "INVALID_REQUEST, before an engine sees it");
}

/* --- all other limits --- */

#define CHAT "{'messages': [{'role': 'user', 'content': 'a'}], "

static void counts_and_sizes(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'quiet'}");
    static const struct {
        const char *before, *piece, *between;
        size_t most; /* the largest count that is accepted */
        const char *after, *limit;
    } cases[] = {
        {"{'messages': [", "{'role': 'user', 'content': 'a'}", ",", 10000, "]}", "messages"},
        {"{'messages': [{'role': 'user', 'content': [", "{'type': 'text', 'text': 'a'}", ",", 10000,
         "]}]}", "parts"},
        {"{'prompt': 'a', 'stop': [", "'b'", ",", 256, "]}", "stop_strings"},
        {"{'prompt': 'a', 'stop_token_ids': [", "1", ",", 256, "]}", "stop_strings"},
        {"{'prompt': 'a', 'bad_words': [", "'b'", ",", 256, "]}", "stop_strings"},
        {"{'prompt': 'a', 'stop': '", "b", "", 4096, "'}", "stop_bytes"},
        {"{'prompt': 'a', 'stop': ['c', '", "b", "", 4096, "']}", "stop_bytes"},
        {"{'prompt': 'a', 'user': '", "b", "", 65536, "'}", "string_bytes"},
        {"{'messages': [{'content': 'a', 'role': '", "b", "", 65536, "'}]}", "string_bytes"},
        {"{'prompt': [", "'a'", ",", 2048, "]}", "inputs"},
        {"{'input': [", "[1]", ",", 2048, "]}", "inputs"},
        {"{'n': 16, 'prompt': [", "[1]", ",", 128, "]}", "inputs"},
        {"{'prompt': 'a', 'guided_choice': [", "'b'", ",", 4096, "]}", "choices"},
        {CHAT "'tools': [", "{'type': 'function', 'function': {'name': 'f'}}", ",", 1024, "]}",
         "tools"},
        {CHAT "'tools': [{'type': 'function', 'function': {'name': 'f', 'description': '", "b", "",
         131000, "'}}]}", "grammar_bytes"},
        /* The body and the array count as values, too. */
        {"{'input': [", "1", ",", 999998, "]}", "values"},
    };
    const size_t count = sizeof cases / sizeof *cases;
    for (size_t i = 0; i < count; ++i) {
        char limit[64];
        snprintf(limit, sizeof limit, "(\"limits.request.%s\"", cases[i].limit);
        char *body = repeated(cases[i].before, cases[i].piece, cases[i].between, cases[i].most,
                              cases[i].after);
        check_taken(runtime, body);
        free(body);
        body = repeated(cases[i].before, cases[i].piece, cases[i].between, cases[i].most + 200,
                        cases[i].after);
        check_refused(runtime, body, DYNAMO_ERROR_INVALID_REQUEST, limit);
        free(body);
    }
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a request has too many, or too long, messages, stop strings, tools, names", 15,
                "INVALID_REQUEST, before an engine sees it");
}

static void a_host_may_allow_more_or_less(void) {
    dynamo_runtime_t *more =
        start("{'engine': 'quiet', 'limits': {'request': {'grammar_repetitions': 2000000000}}}");
    const char *const body = "{\"prompt\": \"a\", \"guided_json\": {\"minItems\": 1000000000}}";
    check_taken(more, body);
    dynamo_runtime_destroy(more);
    dynamo_runtime_t *less =
        start("{'engine': 'quiet', 'limits': {'request': {'body_bytes': 50, 'messages': 1}}}");
    check_refused(less, body, DYNAMO_ERROR_INVALID_REQUEST, "at most 50 are allowed");
    check_taken(less, "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}]}");
    dynamo_runtime_destroy(less);
    CHECK(dynamo_runtime_create("{\"limits\": {\"request\": {\"grammar_repetition\": 1}}}") ==
          NULL);
    CHECK_CONTAINS(dynamo_last_error(), "did you mean \"limits.request.grammar_repetitions\"?");
    CHECK(dynamo_runtime_create("{\"limits\": {\"request\": {\"body_bytes\": 0}}}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_CONFIG);
}

static void values_that_take_much_memory(void) {
    static const char *const pieces[] = {"[]", "{}", "{'a':0}"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; ++i) {
        char *const body = repeated("{'prompt': 'a', 'metadata': [", pieces[i], ",", 4000000, "]}");
        CHECK(dynamo_request_create(body) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_JSON);
        CHECK_CONTAINS(dynamo_last_error(), "(256 MiB) of memory");
        free(body);
    }
    RELIABILITY("a body has so many values that they would take over 256 MiB", 3, "INVALID_JSON");
}

/* --- context length --- */

static void prompts_longer_than_the_context(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'short'}"); /* 100 tokens of 4 bytes */
    static const struct {
        const char *before, *piece, *between;
        size_t most;
        const char *after;
    } cases[] = {
        {"{'prompt': [", "1", ",", 100, "]}"},
        {"{'prompt': [[1], [", "1", ",", 100, "]]}"},
        {"{'input': [[", "1", ",", 100, "], [1, 2]]}"},
        {"{'prompt': '", "a", "", 403, "'}"},
        {"{'prompt': ['b', '", "a", "", 403, "']}"},
        {"{'input': '", "a", "", 403, "'}"},
        {"{'messages': [{'role': 'user', 'content': '", "a", "", 403, "'}]}"},
        {"{'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': '", "a", "", 403,
         "'}]}]}"},
    };
    const size_t count = sizeof cases / sizeof *cases;
    for (size_t i = 0; i < count; ++i) {
        char *body = repeated(cases[i].before, cases[i].piece, cases[i].between, cases[i].most,
                              cases[i].after);
        check_taken(runtime, body);
        free(body);
        body = repeated(cases[i].before, cases[i].piece, cases[i].between, cases[i].most + 1,
                        cases[i].after);
        check_refused(runtime, body, DYNAMO_ERROR_CONTEXT_LENGTH, "context length is 100 tokens");
        free(body);
    }
    /* Accepted: a prompt that is truncated to fit, and text that a template may omit. */
    char *body = repeated("{'truncate_prompt_tokens': 5, 'prompt': '", "a", "", 10000, "'}");
    check_taken(runtime, body);
    free(body);
    body = repeated("{'messages': [{'role': 'user', 'content': '", " ", "", 10000, "'}]}");
    check_taken(runtime, body);
    free(body);
    body = repeated("{'messages': [{'role': 'assistant', 'content': '", "a", "", 10000, "'}]}");
    check_taken(runtime, body);
    free(body);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a prompt cannot fit into the context: text, token ids, one of several", 8,
                "CONTEXT_LENGTH, without the work of its tokens");
}

static void hopeless_requests_do_not_wait(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'short', 'limits': {'max_concurrent': 1}}");
    dynamo_request_t *running = sent(runtime, say("hold"));
    dynamo_request_t *waiting = sent(runtime, say("wait"));
    char *const body = repeated("{'prompt': '", "a", "", 1000, "'}");
    check_refused(runtime, body, DYNAMO_ERROR_CONTEXT_LENGTH, "the prompt has 1000 bytes");
    free(body);
    check_refused(runtime, "{\"prompt\": \"a\", \"guided_regex\": \"a{1000000}\"}",
                  DYNAMO_ERROR_INVALID_REQUEST, "\"guided_regex\" of the request");
    CHECK(statistic(runtime, "queued") == 1);
    dynamo_request_destroy(running);
    check_answer(waiting, "", DYNAMO_END);
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    CHECK_STATUS(dynamo_engine_register("quiet", &quiet, NULL, NULL), DYNAMO_OK);
    static char description[] = "{\"context_length\": 100, \"longest_token\": 4}";
    CHECK_STATUS(dynamo_engine_register("short", &quiet, description, NULL), DYNAMO_OK);
    RUN(a_schema_that_asks_for_too_much);
    RUN(references_that_lead_far);
    RUN(expressions_and_grammars_that_ask_for_too_much);
    RUN(counts_and_sizes);
    RUN(a_host_may_allow_more_or_less);
    RUN(values_that_take_much_memory);
    RUN(prompts_longer_than_the_context);
    RUN(hopeless_requests_do_not_wait);
    return 0;
}
