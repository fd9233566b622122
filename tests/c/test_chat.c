/* SPDX-License-Identifier: Apache-2.0 */
/* Chats without JSON: the builder, whole answers in one call, the values of responses, and reading JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dynamo_llm/engine.h"
#include "support.h"

/* -------------------------------------------------------------------------------- the builder */

static dynamo_chat_t *new_chat(void) {
    dynamo_chat_t *const chat = dynamo_chat_create();
    CHECK(chat != NULL);
    return chat;
}

static void check_body(dynamo_chat_t *chat, const char *expected) {
    char *const body = dynamo_chat_json(chat);
    char *const wanted = json(expected);
    CHECK_TEXT(body, wanted);
    free(wanted);
    dynamo_free(body);
}

static void a_body_is_built(void) {
    dynamo_chat_t *const chat = new_chat();
    check_body(chat, "{'messages': []}");
    CHECK_STATUS(dynamo_chat_add_message(chat, "system", "Be brief."), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_message(chat, "user", "Hi"), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_string(chat, "model", "qwen"), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_number(chat, "temperature", 0.5), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_integer(chat, "max_tokens", 7), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_integer(chat, "seed", INT64_MIN), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_boolean(chat, "logprobs", 2), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_json(chat, "stop", "[\"a\",  \"b\"]"), DYNAMO_OK);
    check_body(
        chat,
        "{'messages': [{'role':'system','content':'Be brief.'}, "
        "{'role':'user','content':'Hi'}], 'logprobs': true, 'max_tokens': 7, 'model': 'qwen', "
        "'seed': -9223372036854775808, 'stop': ['a',  'b'], 'temperature': 0.5}");
    /* The last value counts, and null removes a key. */
    CHECK_STATUS(dynamo_chat_set_boolean(chat, "logprobs", 0), DYNAMO_OK);
    const char *const keys[] = {"model", "temperature", "max_tokens", "seed", "stop"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; ++i) {
        CHECK_STATUS(dynamo_chat_set_json(chat, keys[i], " null "), DYNAMO_OK);
    }
    CHECK_STATUS(
        dynamo_chat_set_json(chat, "messages", " [ {\"role\": \"user\", \"content\": \"[]\"} ] "),
        DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_message_json(chat, "{\"role\": \"assistant\", \"content\": []}"),
                 DYNAMO_OK);
    check_body(chat,
               "{'messages': [ {'role': 'user', 'content': '[]'} , "
               "{'role': 'assistant', 'content': []}], 'logprobs': false}");
    CHECK_STATUS(dynamo_chat_set_json(chat, "messages", "[ ]"), DYNAMO_OK);
    check_body(chat, "{'messages': [], 'logprobs': false}");
    dynamo_chat_destroy(chat);
}

static void media_is_added(void) {
    dynamo_chat_t *const chat = new_chat();
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/png", "x", 1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "add one with dynamo_chat_add_message() first");
    CHECK_STATUS(dynamo_chat_add_message(chat, "user", "What is it?"), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/png", "\0\377\020", 3), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_media(chat, "audio/wav", "ab", 2), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/svg+xml", "a", 1), DYNAMO_OK);
    check_body(chat,
               "{'messages': [{'role':'user','content':["
               "{'type':'image_url','image_url':{'url':'data:image/png;base64,AP8Q'}},"
               "{'type':'input_audio','input_audio':{'data':'YWI=','format':'wav'}},"
               "{'type':'image_url','image_url':{'url':'data:image/svg+xml;base64,YQ=='}},"
               "{'type':'text','text':'What is it?'}]}]}");
    const char *const types[] = {"text/plain", "image/",    "image",    "",
                                 "/png",       "image/p g", "image/\"", "image/png;charset=x"};
    for (size_t i = 0; i < sizeof types / sizeof *types; ++i) {
        CHECK_STATUS(dynamo_chat_add_media(chat, types[i], "x", 1), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(dynamo_last_error(), "such as \"image/png\" or \"audio/wav\"");
    }
    CHECK_STATUS(dynamo_chat_add_media(chat, NULL, "x", 1), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/png", NULL, 1), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "data is NULL");
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/png", "x", 0), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "size is 0");
    CHECK_STATUS(dynamo_chat_add_message_json(chat, "{\"role\": \"user\", \"content\": []}"),
                 DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/png", "x", 1), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_chat_set_json(chat, "messages", "null"), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_tool_result(chat, "id", "x"), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_media(chat, "image/png", "x", 1), DYNAMO_ERROR_INVALID_STATE);
    dynamo_chat_destroy(chat);
}

static void tools_are_built(void) {
    dynamo_chat_t *const chat = new_chat();
    CHECK_STATUS(dynamo_chat_add_tool(chat, "now", NULL, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_tool(chat, "look", "Looks \"up\".", "{\"type\": \"object\"}"),
                 DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_tool(chat, "add", "Adds.", NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "add", "a", "number", "First", 1), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "add", "b", "integer", NULL, 1), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "add", "exact", "boolean", NULL, 0), DYNAMO_OK);
    check_body(chat,
               "{'messages': [], 'tools': ["
               "{'type':'function','function':{'name':'now','parameters':{'type':'object','"
               "properties':{}}}}, "
               "{'type':'function','function':{'name':'look','description':'Looks \\'up\\'.',"
               "'parameters':{'type': 'object'}}}, "
               "{'type':'function','function':{'name':'add','description':'Adds.','parameters':"
               "{'type':'object','properties':{'a':{'type':'number','description':'First'},"
               "'b':{'type':'integer'},'exact':{'type':'boolean'}},'required':['a','b']}}}]}");
    CHECK_STATUS(dynamo_chat_add_tool(chat, "add", NULL, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "already has a tool \"add\"");
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "add", "a", "string", NULL, 0),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "the tool \"add\" already has a parameter \"a\"");
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "sub", "a", "string", NULL, 0),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "no tool \"sub\"; add it with dynamo_chat_add_tool()");
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "look", "a", "string", NULL, 0),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "was added with a JSON Schema; put \"a\" into that schema");
    CHECK_STATUS(dynamo_chat_add_parameter(chat, "add", "c", "array", NULL, 0),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "type must be \"string\", \"integer\"");
    CHECK_STATUS(
        dynamo_chat_set_json(
            chat, "tools",
            "[{\"type\": \"function\", \"function\": {\"name\": \"x\"}}, {\"type\": \"other\"}]"),
        DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_tool(chat, "x", NULL, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_chat_add_tool(chat, "add", NULL, NULL), DYNAMO_OK);
    check_body(chat,
               "{'messages': [], 'tools': [{'type': 'function', 'function': {'name': 'x'}}, "
               "{'type': 'other'}, "
               "{'type':'function','function':{'name':'add','parameters':{'type':'object','"
               "properties':{}}}}]}");
    dynamo_chat_destroy(chat);
}

/* Everything that a text may contain reaches the engine. */
static void texts_are_quoted(void) {
    dynamo_runtime_t *const runtime = start_echo();
    char text[300];
    size_t length = 0;
    for (int c = 1; c < 128; ++c) {
        text[length++] = (char)c;
    }
    strcpy(text + length, "\xc3\xa9 \xe2\x80\xa8 \xf0\x9f\xa6\x80 \\u0041 \"}]");
    dynamo_chat_t *const chat = new_chat();
    CHECK_STATUS(dynamo_chat_add_message(chat, "user", text), DYNAMO_OK);
    dynamo_response_t *const whole = dynamo_chat_complete(runtime, chat, -1);
    CHECK(whole != NULL);
    CHECK_TEXT(dynamo_response_text(whole, NULL), text);
    dynamo_free(whole);
    check_answer(sent(runtime, dynamo_request_create_chat(chat)), text, DYNAMO_END);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

static void what_is_wrong_is_an_error(void) {
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(chat, "user", "a");
    dynamo_chat_add_tool(chat, "t", NULL, NULL);
    char *const before = dynamo_chat_json(chat);
    const char *const broken = "ab\xff";
    const int32_t results[] = {
        dynamo_chat_add_message(chat, "user", broken),
        dynamo_chat_add_message(chat, broken, "a"),
        dynamo_chat_add_message(chat, "", "a"),
        dynamo_chat_add_message(chat, NULL, "a"),
        dynamo_chat_add_message(chat, "user", NULL),
        dynamo_chat_add_message_json(chat, NULL),
        dynamo_chat_add_message_json(chat, "[]"),
        dynamo_chat_add_tool_result(chat, NULL, "a"),
        dynamo_chat_add_tool_result(chat, "1", broken),
        dynamo_chat_add_tool(chat, NULL, NULL, NULL),
        dynamo_chat_add_tool(chat, "", NULL, NULL),
        dynamo_chat_add_tool(chat, "u", broken, NULL),
        dynamo_chat_add_tool(chat, "u", NULL, "[]"),
        dynamo_chat_add_parameter(chat, NULL, "a", "string", NULL, 1),
        dynamo_chat_add_parameter(chat, "t", NULL, "string", NULL, 1),
        dynamo_chat_add_parameter(chat, "t", "a", NULL, NULL, 1),
        dynamo_chat_add_parameter(chat, "t", "a", "string", broken, 1),
        dynamo_chat_set_string(chat, NULL, "a"),
        dynamo_chat_set_string(chat, "", "a"),
        dynamo_chat_set_string(chat, "model", NULL),
        dynamo_chat_set_string(chat, "model", broken),
        dynamo_chat_set_string(chat, "messages", "a"),
        dynamo_chat_set_integer(chat, "tools", 1),
        dynamo_chat_set_number(chat, "temperature", (double)NAN),
        dynamo_chat_set_number(chat, "temperature", (double)INFINITY),
        dynamo_chat_set_json(chat, "stop", NULL),
        dynamo_chat_set_json(chat, "messages", "{}"),
        dynamo_chat_set_json(chat, "tools", "[1]"),
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; ++i) {
        CHECK_STATUS(results[i], DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    CHECK_STATUS(dynamo_chat_set_json(chat, "stop", "[1"), DYNAMO_ERROR_INVALID_JSON);
    CHECK_CONTAINS(dynamo_last_error(), "value_json is not valid JSON: line 1, column");
    CHECK_STATUS(dynamo_chat_add_message(chat, "user", broken), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(),
                   "content is not UTF-8: the byte at position 2 is not valid; convert");
    CHECK_STATUS(dynamo_chat_set_string(chat, "messages", "a"), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(),
                   "\"messages\" must be an array of objects; use dynamo_chat_set_json()");
    char *const after = dynamo_chat_json(chat);
    CHECK_TEXT(after, before); /* nothing changed */
    dynamo_free(after);
    dynamo_free(before);
    /* Keys are checked when a request is created. */
    CHECK_STATUS(dynamo_chat_set_integer(chat, "max_token", 1), DYNAMO_OK);
    CHECK(dynamo_request_create_chat(chat) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_CONTAINS(dynamo_last_error(), "\"max_tokens\"");
    dynamo_chat_destroy(chat);
}

/* ------------------------------------------------------------------------------- whole answers */

static void one_call_gets_a_whole_answer(void) {
    dynamo_runtime_t *const runtime = start_echo();
    dynamo_response_t *whole = dynamo_runtime_complete(
        runtime, "{\"prompt\": \"one two three\", \"stream\": true}", 60000);
    CHECK(whole != NULL);
    CHECK_TEXT(dynamo_response_text(whole, NULL), "one two three");
    CHECK_TEXT(dynamo_response_finish_reason(whole), "stop");
    dynamo_usage_t usage = {.struct_size = sizeof usage};
    CHECK_STATUS(dynamo_response_usage(whole, &usage), DYNAMO_OK);
    CHECK(usage.completion_tokens == 3);
    dynamo_timing_t timing = {.struct_size = sizeof timing};
    CHECK_STATUS(dynamo_response_timing(whole, &timing), DYNAMO_OK);
    /* An answer has none of these, which is no error. */
    size_t length = 1;
    CHECK(dynamo_response_tool_call_count(whole) == 0);
    CHECK(dynamo_response_logprob_count(whole) == 0);
    CHECK(dynamo_response_embedding_count(whole) == 0);
    CHECK_TEXT(dynamo_response_reasoning(whole, &length), "");
    CHECK(length == 0);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    dynamo_tool_call_t call = {.struct_size = sizeof call};
    CHECK_STATUS(dynamo_response_tool_call(whole, 0, &call), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "index is 0, but tool calls of the response: 0");
    dynamo_chat_t *const chat = new_chat();
    CHECK_STATUS(dynamo_chat_add_answer(chat, whole), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "not an answer to a chat");
    dynamo_free(whole);

    CHECK(dynamo_chat_complete(runtime, chat, -1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST); /* no messages */
    CHECK_STATUS(dynamo_chat_add_message(chat, "user", "a"), DYNAMO_OK);
    for (int64_t wrong = -2; wrong <= 0; wrong += 2) {
        CHECK(dynamo_chat_complete(runtime, chat, wrong) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    CHECK(dynamo_runtime_complete(runtime, "[]", -1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK(dynamo_runtime_complete(runtime, NULL, -1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(dynamo_chat_complete(runtime, chat, -1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_CLOSED);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

static void errors_of_a_whole_answer(void) {
    dynamo_runtime_t *const runtime = start("{'engine': 'scripted'}");
    CHECK(dynamo_runtime_complete(runtime, "{\"prompt\": \"[{\\\"stall\\\": true}]\"}", 30) ==
          NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_DEADLINE_EXCEEDED);
    CHECK_CONTAINS(dynamo_last_error_json(), "\"request_id\":\"req-");
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(
        chat, "user",
        "[{\"text\": \"a\"}, {\"error\": {\"status\": \"UNAVAILABLE\", \"message\": \"gone\"}}]");
    CHECK(dynamo_chat_complete(runtime, chat, -1) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_UNAVAILABLE);
    CHECK_CONTAINS(dynamo_last_error(), "gone");
    /* A program that does not check the response still learns why. */
    CHECK_STATUS(dynamo_chat_add_answer(chat, NULL), DYNAMO_ERROR_UNAVAILABLE);
    CHECK_CONTAINS(dynamo_last_error(),
                   "the response is NULL, because creating it failed earlier: gone");
    EVENTUALLY(statistic(runtime, "in_flight") == 0);
    CHECK(statistic(runtime, "failed") == 2);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

/* ---------------------------------------------------------------------------------- tool calls */

static const char calls_script[] =
    "[{'delta': {'reasoning_content': 'Two '}}, {'delta': {'reasoning': 'cities.'}},"
    " {'delta': {'tool_calls': [{'index': 0, 'id': 'call-1', 'type': 'function',"
    "   'function': {'name': 'temperature', 'arguments': '{\\'city\\': '}}]}},"
    " {'delta': {'tool_calls': [{'index': 0, 'function': {'arguments': '\\'Oslo\\'}'}}]}},"
    " {'delta': {'tool_calls': [{'index': 1, 'id': 'call-2',"
    "   'function': {'name': 'now', 'arguments': '{}'}}]}},"
    " {'finish': 'tool_calls'}]";

static void check_calls(const dynamo_response_t *response) {
    CHECK(dynamo_response_tool_call_count(response) == 2);
    dynamo_tool_call_t call = {.struct_size = sizeof call};
    CHECK_STATUS(dynamo_response_tool_call(response, 0, &call), DYNAMO_OK);
    CHECK_TEXT(call.id, "call-1");
    CHECK_TEXT(call.name, "temperature");
    CHECK_TEXT(call.arguments, "{\"city\": \"Oslo\"}");
    CHECK_STATUS(dynamo_response_tool_call(response, 1, &call), DYNAMO_OK);
    CHECK_TEXT(call.id, "call-2");
    CHECK_TEXT(call.name, "now");
    CHECK_TEXT(call.arguments, "{}");
    CHECK_STATUS(dynamo_response_tool_call(response, 2, &call), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK(call.id == NULL && call.struct_size == sizeof call);
}

static const char answer_with_calls[] =
    "{'messages': [{'role':'user','content':'x'}, {'role':'assistant','content':null,"
    "'reasoning_content':'Two cities.','tool_calls':[{'id':'call-1','type':'function','function':"
    "{'name':'temperature','arguments':'{\\'city\\': \\'Oslo\\'}'}},{'id':'call-2','type':"
    "'function','function':{'name':'now','arguments':'{}'}}]}, "
    "{'role':'tool','tool_call_id':'call-1','content':'4 \xc2\xb0"
    "C'}]}";

static void tool_calls_of_a_whole_answer(void) {
    dynamo_runtime_t *const runtime = start_script(calls_script);
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(chat, "user", "x");
    dynamo_response_t *const whole = dynamo_chat_complete(runtime, chat, -1);
    CHECK(whole != NULL);
    check_calls(whole);
    size_t length = 0;
    CHECK_TEXT(dynamo_response_reasoning(whole, &length), "Two cities.");
    CHECK(length == strlen("Two cities."));
    CHECK_STATUS(dynamo_chat_add_answer(chat, whole), DYNAMO_OK);
    dynamo_free(whole);
    CHECK_STATUS(dynamo_chat_add_tool_result(chat, "call-1",
                                             "4 \xc2\xb0"
                                             "C"),
                 DYNAMO_OK);
    check_body(chat, answer_with_calls);
    dynamo_request_t *const next = dynamo_request_create_chat(chat); /* a valid body */
    CHECK(next != NULL);
    dynamo_request_destroy(next);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

static void tool_calls_of_a_stream(void) {
    dynamo_runtime_t *const runtime = start_script(calls_script);
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(chat, "user", "x");
    dynamo_request_t *const request = sent(runtime, dynamo_request_create_chat(chat));
    dynamo_response_t *response;
    size_t ends = 0;
    char reasoning[100] = "";
    while ((response = dynamo_request_recv(request)) != NULL) {
        strcat(reasoning, dynamo_response_reasoning(response, NULL));
        if (dynamo_response_finish_reason(response) != NULL) {
            check_calls(response);
            ++ends;
        } else {
            CHECK(dynamo_response_tool_call_count(response) == 0);
        }
        CHECK_STATUS(dynamo_chat_add_answer(chat, response), DYNAMO_OK);
        dynamo_free(response);
    }
    CHECK(ends == 1);
    CHECK_TEXT(reasoning, "Two cities.");
    dynamo_request_destroy(request);
    CHECK_STATUS(dynamo_chat_add_tool_result(chat, "call-1",
                                             "4 \xc2\xb0"
                                             "C"),
                 DYNAMO_OK);
    check_body(chat, answer_with_calls);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

/* An engine that pushes one word of choice 1 and then one of choice 0, three times. */
static int32_t choices_start(void *user, const char *config, void **instance) {
    (void)user, (void)config;
    *instance = NULL;
    return DYNAMO_OK;
}
static int32_t choices_generate(void *instance, dynamo_stream_t *stream, const char *id,
                                const char *body) {
    (void)instance, (void)id;
    dynamo_json_t *const read = dynamo_json_create(body);
    CHECK(dynamo_json_integer(read, "/n", 0) == 2);
    CHECK_TEXT(dynamo_json_string(read, "/messages/0/content", NULL), "x");
    dynamo_json_destroy(read);
    for (int i = 0; i < 3; ++i) {
        for (uint32_t index = 2; index-- > 0;) {
            const char *const texts[] = {"a", "b"};
            const dynamo_chunk_t chunk = {.struct_size = sizeof chunk,
                                          .text = texts[index],
                                          .text_length = 1,
                                          .index = index,
                                          .delta_json = "{\"reasoning_content\": \"hm\"}"};
            CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
        }
    }
    return dynamo_stream_finish(stream, "stop", NULL);
}
static void choices_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}
static void choices_stop(void *instance) {
    (void)instance;
}
static const dynamo_engine_t choices = {.struct_size = sizeof choices,
                                        .start = choices_start,
                                        .generate = choices_generate,
                                        .cancel = choices_cancel,
                                        .stop = choices_stop};

static void one_choice_of_a_stream(void) {
    CHECK_STATUS(dynamo_engine_register("choices", &choices, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *const runtime = start("{'engine': 'choices'}");
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(chat, "user", "x");
    CHECK_STATUS(dynamo_chat_set_integer(chat, "n", 2), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_json(chat, "stream_options", "{\"include_usage\": true}"),
                 DYNAMO_OK);
    dynamo_request_t *const request = sent(runtime, dynamo_request_create_chat(chat));
    dynamo_chat_t *const other = new_chat();
    dynamo_response_t *response;
    int is_first = 1;
    while ((response = dynamo_request_recv(request)) != NULL) {
        if (dynamo_response_index(response) == 1) {
            CHECK_STATUS(dynamo_chat_add_answer(chat, response), DYNAMO_OK);
            if (!is_first) { /* its beginning was not added there */
                CHECK_STATUS(dynamo_chat_add_answer(other, response), DYNAMO_ERROR_INVALID_STATE);
            }
            is_first = 0;
        }
        dynamo_free(response);
    }
    CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    dynamo_request_destroy(request);
    /* Without tool calls the reasoning is dropped. */
    check_body(
        chat,
        "{'messages': [{'role':'user','content':'x'}, {'role':'assistant','content':'bbb'}], "
        "'n': 2, 'stream_options': {'include_usage': true}}");
    check_body(other, "{'messages': []}");
    /* Of a whole answer it is the first choice. */
    CHECK_STATUS(
        dynamo_chat_set_json(chat, "messages", "[{\"role\": \"user\", \"content\": \"x\"}]"),
        DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_set_json(chat, "stream_options", "null"), DYNAMO_OK);
    response = dynamo_chat_complete(runtime, chat, -1);
    CHECK(response != NULL);
    CHECK_STATUS(dynamo_chat_add_answer(chat, response), DYNAMO_OK);
    check_body(chat,
               "{'messages': [{'role': 'user', 'content': 'x'}, "
               "{'role':'assistant','content':'aaa'}], 'n': 2}");
    dynamo_json_t *const parsed = dynamo_json_create(dynamo_response_json(response));
    CHECK_TEXT(dynamo_json_string(parsed, "/choices/1/message/content", NULL), "bbb");
    dynamo_json_destroy(parsed);
    dynamo_free(response);
    dynamo_chat_destroy(other);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_engine_unregister("choices"), DYNAMO_OK);
}

static void a_continuation_needs_its_beginning(void) {
    dynamo_runtime_t *const runtime =
        start_script("[{'text': 'a'}, {'delay_ms': 50}, {'text': 'b'}]");
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(chat, "user", "x");
    dynamo_request_t *const request = sent(runtime, dynamo_request_create_chat(chat));
    dynamo_response_t *const first = dynamo_request_recv(request);
    dynamo_response_t *const second = dynamo_request_recv(request);
    CHECK_STATUS(dynamo_chat_add_answer(chat, second), DYNAMO_ERROR_INVALID_STATE);
    CHECK_CONTAINS(dynamo_last_error(), "add all responses of one choice, in order");
    CHECK_STATUS(dynamo_chat_add_answer(chat, first), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_message(chat, "user", "y"), DYNAMO_OK);
    CHECK_STATUS(dynamo_chat_add_answer(chat, second), DYNAMO_ERROR_INVALID_STATE);
    check_body(chat,
               "{'messages': [{'role':'user','content':'x'}, {'role':'assistant','content':'a'}, "
               "{'role':'user','content':'y'}]}");
    dynamo_free(first);
    dynamo_free(second);
    dynamo_request_destroy(request);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

/* ------------------------------------------------------------------------------------ log-probs */

static int near(double a, double b) {
    return fabs(a - b) < 1e-9;
}

static void logprobs_of_a_chat(void) {
    dynamo_runtime_t *const runtime = start_script(
        "[{'text': 'Hi', 'token_ids': [7], 'logprobs': {'content': [{'token': 'Hi', 'logprob': "
        "-0.5,"
        "  'top_logprobs': [{'token': 'Hi', 'logprob': -0.5}, {'token': 'Ho', 'logprob': -2}]}]}},"
        " {'text': '!', 'token_ids': [8], 'logprobs': {'content': [{'token': '!', 'logprob': -1,"
        "  'top_logprobs': []}]}}]");
    dynamo_chat_t *const chat = new_chat();
    dynamo_chat_add_message(chat, "user", "x");
    dynamo_response_t *const whole = dynamo_chat_complete(runtime, chat, -1);
    CHECK(dynamo_response_logprob_count(whole) == 2);
    dynamo_logprob_t token = {.struct_size = sizeof token};
    CHECK_STATUS(dynamo_response_logprob(whole, 0, &token), DYNAMO_OK);
    CHECK_TEXT(token.text, "Hi");
    CHECK(token.text_length == 2 && near(token.logprob, -0.5) && token.token_id == 7);
    CHECK(token.alternative_count == 2);
    CHECK_STATUS(dynamo_response_alternative(whole, 0, 1, &token), DYNAMO_OK);
    CHECK_TEXT(token.text, "Ho");
    CHECK(near(token.logprob, -2) && token.token_id == -1 && token.alternative_count == 0);
    CHECK_STATUS(dynamo_response_logprob(whole, 1, &token), DYNAMO_OK);
    CHECK_TEXT(token.text, "!");
    CHECK(token.token_id == 8 && token.alternative_count == 0);
    CHECK_STATUS(dynamo_response_alternative(whole, 1, 0, &token), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "alternative is 0, but alternatives of the token: 0");
    CHECK(token.text == NULL);
    CHECK_STATUS(dynamo_response_logprob(whole, 2, &token), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_response_logprob(whole, 0, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    dynamo_free(whole);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
}

static void logprobs_of_other_shapes(void) {
    dynamo_runtime_t *runtime = start_script(
        "[{'text': 'a', 'logprobs': {'tokens': ['a', 'b'], 'token_logprobs': [null, -0.25],"
        "  'top_logprobs': [null, {'b': -0.25, 'a': -3, 'c': -1}], 'text_offset': [0, 1]}}]");
    dynamo_response_t *whole = dynamo_runtime_complete(runtime, "{\"prompt\": \"x\"}", -1);
    CHECK(dynamo_response_logprob_count(whole) == 2);
    dynamo_logprob_t token = {.struct_size = sizeof token};
    CHECK_STATUS(dynamo_response_logprob(whole, 0, &token), DYNAMO_OK);
    CHECK_TEXT(token.text, "a");
    CHECK(isnan(token.logprob) && token.token_id == -1 && token.alternative_count == 0);
    const char *const texts[] = {"b", "c", "a"}; /* most likely first */
    for (size_t i = 0; i < 3; ++i) {
        CHECK_STATUS(dynamo_response_alternative(whole, 1, i, &token), DYNAMO_OK);
        CHECK_TEXT(token.text, texts[i]);
    }
    dynamo_free(whole);
    dynamo_runtime_destroy(runtime);

    /* A token-level engine without a pipeline. */
    runtime = start_script(
        "[{'text': 'a', 'token_ids': [3], 'logprobs': {'tokens': [{'logprob': -0.25,"
        "  'top': [[3, -0.25], [9, -1.5]]}]}}]");
    whole = dynamo_runtime_complete(runtime, "{\"prompt\": \"x\"}", -1);
    CHECK(dynamo_response_logprob_count(whole) == 1);
    CHECK_STATUS(dynamo_response_logprob(whole, 0, &token), DYNAMO_OK);
    CHECK_TEXT(token.text, "");
    CHECK(near(token.logprob, -0.25) && token.token_id == 3 && token.alternative_count == 2);
    CHECK_STATUS(dynamo_response_alternative(whole, 0, 1, &token), DYNAMO_OK);
    CHECK(near(token.logprob, -1.5) && token.token_id == 9);
    dynamo_free(whole);
    dynamo_runtime_destroy(runtime);

    /* An engine that reports nonsense. */
    runtime =
        start_script("[{'text': 'a', 'logprobs': {'content': [1, {}, {'top_logprobs': [null]}]}}]");
    whole = dynamo_runtime_complete(runtime, "{\"prompt\": \"x\"}", -1);
    CHECK(dynamo_response_logprob_count(whole) == 3);
    CHECK_STATUS(dynamo_response_alternative(whole, 2, 0, &token), DYNAMO_OK);
    CHECK_TEXT(token.text, "");
    CHECK(isnan(token.logprob));
    dynamo_free(whole);
    dynamo_runtime_destroy(runtime);
}

/* ----------------------------------------------------------------------------------- embeddings */

static const char *vectors_json;

static int32_t vectors_generate(void *instance, dynamo_stream_t *stream, const char *id,
                                const char *body) {
    (void)instance, (void)id, (void)body;
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .delta_json = vectors_json};
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    return dynamo_stream_finish(stream, NULL, NULL);
}

static void embeddings_are_floats(void) {
    dynamo_engine_t engine = choices;
    engine.generate = vectors_generate;
    CHECK_STATUS(dynamo_engine_register("vectors", &engine, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *const runtime = start("{'engine': 'vectors'}");
    const char *const bodies[] = {
        "{\"data\": [{\"index\": 1, \"embedding\": [0.5, -2, 1e-3]},"
        " {\"index\": 0, \"embedding\": []}]}",
        /* the same in base64 */
        "{\"data\": [{\"index\": 1, \"embedding\": \"AAAAPwAAAMBvEoM6\"},"
        " {\"index\": 0, \"embedding\": \"\"}]}"};
    for (size_t i = 0; i < 2; ++i) {
        vectors_json = bodies[i];
        dynamo_response_t *const whole =
            dynamo_runtime_complete(runtime, "{\"input\": [\"a\", \"b\"]}", -1);
        CHECK(whole != NULL);
        CHECK(dynamo_response_embedding_count(whole) == 2);
        size_t dimensions = 9;
        dynamo_response_embedding(whole, 0, &dimensions);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
        CHECK(dimensions == 0);
        const float *const vector = dynamo_response_embedding(whole, 1, &dimensions);
        CHECK(dimensions == 3);
        CHECK(vector[0] == 0.5F && vector[1] == -2 && vector[2] == 1e-3F);
        CHECK(dynamo_response_embedding(whole, 1, NULL) == vector);
        CHECK(dynamo_response_embedding(whole, 2, &dimensions) == NULL && dimensions == 0);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
        dynamo_free(whole);
    }
    dynamo_runtime_destroy(runtime);
    CHECK_STATUS(dynamo_engine_unregister("vectors"), DYNAMO_OK);
}

/* --------------------------------------------------------------------------------- reading JSON */

static void values_are_found_by_pointer(void) {
    char *const text = json(
        "{'a': {'b': [10, {'c': 'x\\u0000y'}]}, 't': true, 'n': null, 'f': 2.5, 'e': 2e3, '': "
        "'empty',"
        " 'a/b': 1, 'm~n': 2, 'big': 18446744073709551615, 'least': -9223372036854775808}");
    dynamo_json_t *const read = dynamo_json_create(text);
    free(text);
    CHECK(read != NULL);
    const struct {
        const char *pointer;
        int32_t type;
        size_t count;
        double number;
        int64_t integer;
    } cases[] = {
        {"", DYNAMO_JSON_OBJECT, 10, -1, -1},
        {"/a/b", DYNAMO_JSON_ARRAY, 2, -1, -1},
        {"/a/b/0", DYNAMO_JSON_NUMBER, 0, 10, 10},
        {"/a/b/1/c", DYNAMO_JSON_STRING, 0, -1, -1},
        {"/a/b/2", DYNAMO_JSON_ABSENT, 0, -1, -1},
        {"/a/b/00", DYNAMO_JSON_ABSENT, 0, -1, -1},
        {"/a/b/-", DYNAMO_JSON_ABSENT, 0, -1, -1},
        {"/a/b/18446744073709551616", DYNAMO_JSON_ABSENT, 0, -1, -1},
        {"/a/x/y", DYNAMO_JSON_ABSENT, 0, -1, -1},
        {"/t/x", DYNAMO_JSON_ABSENT, 0, -1, -1},
        {"/t", DYNAMO_JSON_BOOLEAN, 0, -1, -1},
        {"/n", DYNAMO_JSON_NULL, 0, -1, -1},
        {"/f", DYNAMO_JSON_NUMBER, 0, 2.5, -1},
        {"/e", DYNAMO_JSON_NUMBER, 0, 2000, 2000},
        {"/", DYNAMO_JSON_STRING, 0, -1, -1},
        {"/a~1b", DYNAMO_JSON_NUMBER, 0, 1, 1},
        {"/m~0n", DYNAMO_JSON_NUMBER, 0, 2, 2},
        {"/big", DYNAMO_JSON_NUMBER, 0, 18446744073709551615.0, -1},
        {"/least", DYNAMO_JSON_NUMBER, 0, -9223372036854775808.0, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const char *const pointer = cases[i].pointer;
        CHECK_STATUS(dynamo_json_type(read, pointer), cases[i].type);
        CHECK(dynamo_json_count(read, pointer) == cases[i].count);
        CHECK(near(dynamo_json_number(read, pointer, -1), cases[i].number));
        CHECK(dynamo_json_integer(read, pointer, -1) == cases[i].integer);
        CHECK(dynamo_json_boolean(read, pointer, 7) ==
              (cases[i].type == DYNAMO_JSON_BOOLEAN ? 1 : 7));
        CHECK((dynamo_json_string(read, pointer, NULL) != NULL) ==
              (cases[i].type == DYNAMO_JSON_STRING));
        CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    }
    size_t length = 0;
    CHECK(memcmp(dynamo_json_string(read, "/a/b/1/c", &length), "x\0y", 4) == 0);
    CHECK(length == 3);
    CHECK(dynamo_json_string(read, "/t", &length) == NULL && length == 0);
    CHECK_TEXT(dynamo_json_name(read, "", 0), "");
    CHECK_TEXT(dynamo_json_name(read, "", 2), "a/b");
    CHECK_TEXT(dynamo_json_name(read, "/a/b/1", 0), "c");
    CHECK(dynamo_json_name(read, "", 10) == NULL);
    CHECK_CONTAINS(dynamo_last_error(), "index is 10, but the object has 10 member(s)");
    CHECK(dynamo_json_name(read, "/a/b", 0) == NULL);
    CHECK_CONTAINS(dynamo_last_error(), "the value at \"/a/b\" is not an object");

    const char *const wrong[] = {"a", "/a~", "/x/~2", NULL};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        CHECK_STATUS(dynamo_json_type(read, wrong[i]), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(dynamo_last_error(),
                       wrong[i] == NULL ? "pointer is NULL" : "is not a JSON pointer: ");
        CHECK(dynamo_json_string(read, wrong[i], NULL) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK(dynamo_json_integer(read, wrong[i], 5) == 5);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    CHECK_STATUS(dynamo_engine_error(DYNAMO_ERROR_NOT_SUPPORTED, "no", NULL),
                 DYNAMO_ERROR_NOT_SUPPORTED);
    dynamo_json_destroy(read); /* keeps the last error, which an engine returns after it */
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_NOT_SUPPORTED);
    dynamo_json_destroy(read);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK(dynamo_json_create("{\"a\": ") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_JSON);
    CHECK_CONTAINS(dynamo_last_error(), "the text is not valid JSON: line 1, column");
    CHECK(dynamo_json_string(NULL, "/a", NULL) == NULL); /* reports why it is NULL */
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_JSON);
    CHECK(dynamo_json_create(NULL) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
}

/* -------------------------------------------------------------------------------------- threads */

enum { thread_count = 4, rounds = 200 };
static dynamo_runtime_t *shared_runtime;
static dynamo_chat_t *shared_chat;

static void *use_chat(void *argument) {
    (void)argument;
    for (int i = 0; i < rounds; ++i) {
        CHECK_STATUS(dynamo_chat_add_message(shared_chat, "user", "a"), DYNAMO_OK);
        CHECK_STATUS(dynamo_chat_set_integer(shared_chat, "seed", i), DYNAMO_OK);
        char *const body = dynamo_chat_json(shared_chat);
        CHECK(body != NULL);
        dynamo_free(body);
        if (i % 50 == 0) {
            dynamo_response_t *const whole = dynamo_chat_complete(shared_runtime, shared_chat, -1);
            CHECK(whole != NULL);
            CHECK_TEXT(dynamo_response_text(whole, NULL), "a");
            dynamo_free(whole);
        }
    }
    return NULL;
}

static void threads_share_a_chat(void) {
    shared_runtime = start_echo();
    shared_chat = new_chat();
    pthread_t threads[thread_count];
    for (size_t i = 0; i < thread_count; ++i) {
        threads[i] = spawn(use_chat, NULL);
    }
    for (size_t i = 0; i < thread_count; ++i) {
        join(threads[i]);
    }
    char *const body = dynamo_chat_json(shared_chat);
    dynamo_json_t *const read = dynamo_json_create(body);
    CHECK(dynamo_json_count(read, "/messages") == thread_count * rounds);
    dynamo_json_destroy(read);
    dynamo_free(body);
    dynamo_chat_destroy(shared_chat);
    dynamo_runtime_destroy(shared_runtime);
}

int main(void) {
    BEGIN();
    RUN(a_body_is_built);
    RUN(media_is_added);
    RUN(tools_are_built);
    RUN(texts_are_quoted);
    RUN(what_is_wrong_is_an_error);
    RUN(one_call_gets_a_whole_answer);
    RUN(errors_of_a_whole_answer);
    RUN(tool_calls_of_a_whole_answer);
    RUN(tool_calls_of_a_stream);
    RUN(one_choice_of_a_stream);
    RUN(a_continuation_needs_its_beginning);
    RUN(logprobs_of_a_chat);
    RUN(logprobs_of_other_shapes);
    RUN(embeddings_are_floats);
    RUN(values_are_found_by_pointer);
    RUN(threads_share_a_chat);
    return 0;
}
