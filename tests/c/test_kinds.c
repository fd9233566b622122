/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds of bodies besides chats, completions, and embeddings: OpenAI's Responses API, and scores of texts. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* An engine that answers with the body it received: as text, or in a list. */
static int32_t mirror_start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t mirror_generate(void *instance, dynamo_stream_t *stream, const char *id,
                               const char *body) {
    (void)instance;
    (void)id;
    dynamo_chunk_t chunk = {.struct_size = sizeof chunk, .token_count = 1};
    dynamo_usage_t usage = {
        .struct_size = sizeof usage, .prompt_tokens = 5, .completion_tokens = 1};
    if (strstr(body, "\"messages\"") != NULL) {
        chunk.text = body;
        chunk.text_length = strlen(body);
    } else {
        chunk.delta_json = "{\"results\": [{\"index\": 1, \"relevance_score\": 0.5}]}";
    }
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    return dynamo_stream_finish(stream, "stop", &usage);
}

static void mirror_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    dynamo_stream_finish(stream, NULL, NULL);
}

static void mirror_stop(void *instance) {
    (void)instance;
}

static const char *mirror_describe(void *instance) {
    (void)instance;
    return "{\"capabilities\": [\"chat\", \"rerank\"]}";
}

static const dynamo_engine_t mirror_engine = {
    .struct_size = sizeof mirror_engine,
    .start = mirror_start,
    .generate = mirror_generate,
    .cancel = mirror_cancel,
    .stop = mirror_stop,
    .describe = mirror_describe,
};

static void refuse(const char *body, int32_t status, const char *part) {
    char *text = json(body);
    CHECK(dynamo_request_create(text) == NULL);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), part);
    free(text);
}

/* Returns the only response of a whole answer. */
static dynamo_response_t *complete(dynamo_runtime_t *runtime, const char *body) {
    char *text = json(body);
    dynamo_response_t *response = dynamo_runtime_complete(runtime, text, -1);
    if (response == NULL) {
        fprintf(stderr, "%s: %s\n", text, dynamo_last_error());
    }
    CHECK(response != NULL);
    free(text);
    return response;
}

/* Checks the chat that an engine gets for the given keys of a Responses body. */
static void check_chat(const char *keys, const char *part) {
    dynamo_runtime_t *runtime = start("{'engine': 'kinds_mirror'}");
    char body[1024];
    snprintf(body, sizeof body, "{'task': 'respond', %s}", keys);
    dynamo_response_t *response = complete(runtime, body);
    char *wanted = json(part);
    CHECK_CONTAINS(dynamo_response_text(response, NULL), wanted);
    CHECK(strstr(dynamo_response_text(response, NULL), "\"input\"") == NULL);
    CHECK(strstr(dynamo_response_text(response, NULL), "\"task\"") == NULL);
    free(wanted);
    dynamo_free(response);
    dynamo_runtime_destroy(runtime);
}

#define REASONING "{'type': 'reasoning', 'content': [{'type': 'reasoning_text', 'text': 'why'}]}"

static void a_responses_body_is_a_chat_for_engines(void) {
    check_chat("'input': 'a', 'instructions': 'b'",
               "'messages':[{'role':'system','content':'b'},{'role':'user','content':'a'}]");
    check_chat("'input': [{'role': 'user', 'content': [{'type': 'input_text', 'text': 'a'}]}]",
               "[{'role':'user','content':'a'}]");
    check_chat(
        "'input': [{'role': 'user', 'content': [{'type': 'input_image', 'image_url': 'u', "
        "'detail': 'low'}, {'type': 'input_text', 'text': 'a'}]}]",
        "{'type':'image_url','image_url':{'url':'u','detail':'low'}},"
        "{'type':'text','text':'a'}");
    /* The items of a turn, as an answer had them, are one message. */
    check_chat(
        "'input': [{'role': 'user', 'content': 'a'}, {'type': 'reasoning', 'id': 'r', "
        "'summary': [], 'content': [{'type': 'reasoning_text', 'text': 'why'}]}, {'type': "
        "'message', 'id': 'm', 'role': 'assistant', 'status': 'completed', 'content': "
        "[{'type': 'output_text', 'text': 'x', 'annotations': []}]}, {'type': "
        "'function_call', 'call_id': '1', 'name': 'f', 'arguments': '{}'}, {'type': "
        "'function_call', 'call_id': '2', 'name': 'g', 'arguments': '{}'}, {'type': "
        "'function_call_output', 'call_id': '1', 'output': 'y'}]",
        "{'role':'assistant','content':'x','reasoning_content':'why','tool_calls':[{'id':'1',"
        "'type':'function','function':{'name':'f','arguments':'{}'}},{'id':'2','type':"
        "'function','function':{'name':'g','arguments':'{}'}}]},{'role':'tool',"
        "'tool_call_id':'1','content':'y'}");
    /* Reasoning that no item of its turn follows, such as that of a cut answer, is a message of its own. */
    check_chat(
        "'input': [" REASONING
        ", {'role': 'user', 'content': 'a'}, {'role': 'assistant', "
        "'content': 'b'}, " REASONING "]",
        "[{'role':'assistant','content':'','reasoning_content':'why'},{'role':'user','content':"
        "'a'},{'role':'assistant','content':'b'},{'role':'assistant','content':'',"
        "'reasoning_content':'why'}]");
    check_chat("'input': [" REASONING
               ", {'type': 'function_call_output', 'call_id': '1', 'output': 'y'}]",
               "[{'role':'assistant','content':'','reasoning_content':'why'},{'role':'tool',");
    check_chat(
        "'input': [{'role': 'assistant', 'content': [{'type': 'refusal', 'refusal': 'no'}]}]",
        "[{'role':'assistant','content':'no'}]");
    check_chat(
        "'input': 'a', 'tools': [{'type': 'function', 'name': 'f', 'parameters': {'type': "
        "'object', 'properties': {'z': {}, 'a': {}}}, 'strict': true}], 'tool_choice': "
        "{'type': 'function', 'name': 'f'}",
        "'tools':[{'type':'function','function':{'name':'f','parameters':{'type':'object',"
        "'properties':{'z':{},'a':{}}},'strict':true}}],'tool_choice':{'type':'function',"
        "'function':{'name':'f'}}");
    check_chat(
        "'input': 'a', 'text': {'format': {'type': 'json_schema', 'name': 'n', 'schema': "
        "{'type': 'object'}}}",
        "'response_format':{'type':'json_schema','json_schema':{'name':'n','schema':{'type':"
        "'object'}}}");
    check_chat("'input': 'a', 'max_output_tokens': 3, 'temperature': 0.5, 'top_k': 4",
               "'temperature':0.5,'top_k':4,");
    check_chat("'input': 'a', 'max_output_tokens': 3, 'reasoning': {'effort': 'low'}",
               "'max_completion_tokens':3,'reasoning_effort':'low'");
}

/* Checks that a list has these texts in this order. */
static void check_order(const char *text, const char *const *parts) {
    for (; *parts != NULL; ++parts) {
        const char *const found = strstr(text, *parts);
        if (found == NULL) {
            fprintf(stderr, "no %s in %s\n", *parts, text);
        }
        CHECK(found != NULL);
        text = found + strlen(*parts);
    }
}

static void the_answer_is_a_response(void) {
    static const char *const parts[] = {"\"id\":\"resp_mine\"",
                                        "\"object\":\"response\"",
                                        "\"status\":\"completed\"",
                                        "\"type\":\"message\"",
                                        "\"text\":\"a b c\"",
                                        "\"metadata\":{\"k\":\"v\"}",
                                        "\"usage\":{\"input_tokens\":3",
                                        "\"output_tokens\":3",
                                        "\"total_tokens\":6",
                                        NULL};
    dynamo_runtime_t *runtime = start_echo();
    dynamo_response_t *response =
        complete(runtime,
                 "{'task': 'respond', 'input': 'a b c', 'request_id': 'mine', "
                 "'metadata': {'k': 'v'}}");
    check_order(dynamo_response_json(response), parts);
    CHECK_TEXT(dynamo_response_text(response, NULL), "a b c");
    dynamo_free(response);
    dynamo_runtime_destroy(runtime);
}

static void a_stream_has_events(void) {
    static const char *const parts[] = {"response.created",
                                        "\"sequence_number\":0",
                                        "response.in_progress",
                                        "response.output_item.added",
                                        "response.content_part.added",
                                        "response.output_text.delta",
                                        "\"delta\":\"a\"",
                                        "response.output_text.done",
                                        "\"text\":\"a b\"",
                                        "response.content_part.done",
                                        "response.output_item.done",
                                        "response.incomplete",
                                        "max_output_tokens",
                                        "\"status\":\"incomplete\"",
                                        NULL};
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'options': {'tokens_per_second': 200}}");
    dynamo_request_t *request =
        sent(runtime, ask("{'task': 'respond', 'input': 'a b c', 'max_output_tokens': 2, "
                          "'stream_options': {'include_usage': true}}"));
    char all[16384] = "";
    dynamo_response_t *response;
    while ((response = dynamo_request_recv(request)) != NULL) {
        CHECK(strncmp(dynamo_response_json(response), "{\"events\":[", 11) == 0);
        strncat(all, dynamo_response_json(response), sizeof all - strlen(all) - 1);
        dynamo_free(response);
    }
    CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    check_order(all, parts);
    CHECK_CONTAINS(all, "\"input_tokens\":3");
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

/* Text on both sides of a call is one message, and a refusal is a part of it; streamed one by one, and as a whole. */
static void a_stream_has_the_output_of_the_whole(void) {
    static const char *const parts[] = {"\"output\":[{",
                                        "\"content\":[{\"type\":\"output_text\",\"text\":\"ab\"",
                                        "{\"type\":\"refusal\",\"refusal\":\"I can't\"}",
                                        "\"type\":\"function_call\"",
                                        "\"arguments\":\"{}\"",
                                        NULL};
    static const char *const events[] = {
        "response.refusal.delta\"", "\"content_index\":1,\"delta\":\"I can't\"",
        "response.refusal.done\"",  "\"content_index\":1,\"refusal\":\"I can't\"",
        "response.completed",       NULL};
    dynamo_runtime_t *runtime = start(
        "{'engine': 'scripted', 'options': {'script': [{'text': 'a'}, {'delay_ms': 50, 'delta': "
        "{'tool_calls': [{'index': 0, 'id': 'c', 'function': {'name': 'f', 'arguments': '{}'}}]}}, "
        "{'delay_ms': 50, 'text': 'b'}, {'delay_ms': 50, 'delta': {'refusal': 'I "
        "can\\u0027t'}}]}}");
    dynamo_response_t *response = complete(runtime, "{'task': 'respond', 'input': 'a'}");
    check_order(dynamo_response_json(response), parts);
    dynamo_free(response);
    dynamo_request_t *request = sent(runtime, ask("{'task': 'respond', 'input': 'a'}"));
    char all[16384] = "";
    while ((response = dynamo_request_recv(request)) != NULL) {
        strncat(all, dynamo_response_json(response), sizeof all - strlen(all) - 1);
        dynamo_free(response);
    }
    check_order(all, events);
    check_order(strstr(all, "response.completed"), parts);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

/* Limits count what the chat does not have, too, and metadata is as short as OpenAI's. */
static void a_body_is_measured_as_it_was_sent(void) {
    static const char *const bodies[] = {
        "{'task': 'respond', 'input': 'a', 'metadata': {'k': 'abcdefghijklmnopqrstuvwxyz"
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz'}}",
        "{'task': 'respond', 'input': [{'role': 'assistant', 'content': 'a', 'annotations': "
        "[1, 2, 3, 4, 5, 6, 7, 8, 9]}]}"};
    static const char *const reasons[] = {"limits.request.body_bytes", "limits.request.values"};
    dynamo_runtime_t *runtime =
        start("{'engine': 'echo', 'limits': {'request': {'body_bytes': 128, 'values': 12}}}");
    for (size_t i = 0; i < 2; ++i) {
        char *text = json(bodies[i]);
        CHECK(dynamo_runtime_complete(runtime, text, -1) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
        CHECK_CONTAINS(dynamo_last_error(), reasons[i]);
        free(text);
    }
    dynamo_runtime_destroy(runtime);
    char body[2048] = "{'task': 'respond', 'input': 'a', 'metadata': {'0': ''";
    for (int i = 1; i < 17; ++i) {
        snprintf(body + strlen(body), sizeof body - strlen(body), ", '%d': ''", i);
    }
    strcat(body, "}}");
    refuse(body, DYNAMO_ERROR_INVALID_REQUEST,
           "\"metadata\" of the request has 17 pairs; at most 16");
    snprintf(body, sizeof body, "{'task': 'respond', 'input': 'a', 'metadata': {'%065d': ''}}", 0);
    refuse(body, DYNAMO_ERROR_INVALID_REQUEST, "has a key of 65 characters; at most 64");
    snprintf(body, sizeof body, "{'task': 'respond', 'input': 'a', 'metadata': {'k': '%0513d'}}",
             0);
    refuse(body, DYNAMO_ERROR_INVALID_REQUEST,
           "\"metadata.k\" of the request has 513 characters; at most 512");
    refuse("{'task': 'respond', 'input': 'a', 'metadata': {'k': 1}}", DYNAMO_ERROR_INVALID_REQUEST,
           "\"metadata.k\" of the request must be a string");
}

static void what_needs_a_service_is_refused_by_name(void) {
    static const char *const keys[] = {"previous_response_id': 'r",
                                       "conversation': 'c",
                                       "prompt': {'id': 'p'}, 'user': 'u",
                                       "store': true, 'user': 'u",
                                       "background': true, 'user': 'u",
                                       "include': ['x'], 'user': 'u",
                                       "max_tool_calls': 1, 'user': 'u",
                                       "top_logprobs': 1, 'user': 'u",
                                       "truncation': 'auto"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
        char body[256];
        char name[64];
        snprintf(body, sizeof body, "{'task': 'respond', 'input': 'a', '%s'}", keys[i]);
        snprintf(name, sizeof name, "\"%.*s\" of the request is not supported",
                 (int)strcspn(keys[i], "'"), keys[i]);
        refuse(body, DYNAMO_ERROR_NOT_SUPPORTED, name);
    }
    refuse("{'task': 'respond', 'input': 'a', 'tools': [{'type': 'web_search'}]}",
           DYNAMO_ERROR_NOT_SUPPORTED, "\"tools[0]\" of the request has the type \"web_search\"");
    refuse("{'task': 'respond', 'input': [{'type': 'item_reference', 'id': 'x'}]}",
           DYNAMO_ERROR_NOT_SUPPORTED, "\"input[0]\" of the request has the type");
    refuse("{'task': 'respond', 'input': [{'role': 'user', 'content': [{'type': 'input_file'}]}]}",
           DYNAMO_ERROR_NOT_SUPPORTED, "\"input[0].content[0]\" of the request has the type");
    refuse("{'task': 'respond', 'input': [3]}", DYNAMO_ERROR_INVALID_REQUEST,
           "\"input[0]\" of the request must be an object");
    refuse("{'task': 'respond', 'input': []}", DYNAMO_ERROR_INVALID_REQUEST, "is empty");
    refuse("{'task': 'respond', 'input': 'a', 'instruction': 'b'}", DYNAMO_ERROR_INVALID_REQUEST,
           "did you mean \"instructions\"");
    refuse("{'task': 'summarize', 'input': 'a'}", DYNAMO_ERROR_INVALID_REQUEST,
           "must be one of embed, classify, respond");
    refuse("{'task': 'respond', 'input': 'a', 'tools': [{'type': 'function'}]}",
           DYNAMO_ERROR_INVALID_REQUEST, "\"tools[0].name\" of the request must be a string");
}

static void engines_declare_that_they_rank(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'kinds_mirror'}");
    dynamo_response_t *response =
        complete(runtime, "{'query': 'a', 'documents': ['b', 'c'], 'request_id': 'mine'}");
    CHECK_TEXT(dynamo_response_json(response),
               "{\"id\":\"rerank-mine\",\"model\":\"kinds_mirror\",\"results\":[{\"index\":1,"
               "\"relevance_score\":0.5}],\"usage\":{\"prompt_tokens\":5,\"total_tokens\":5}}");
    dynamo_free(response);
    static const char *const bodies[] = {"{'text_1': 'a', 'text_2': 'b'}",
                                         "{'task': 'classify', 'input': 'a'}"};
    static const char *const names[] = {"\"score\"", "\"classify\""};
    for (size_t i = 0; i < 2; ++i) {
        char *text = json(bodies[i]);
        CHECK(dynamo_runtime_complete(runtime, text, -1) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_NOT_SUPPORTED);
        CHECK_CONTAINS(dynamo_last_error(), names[i]);
        free(text);
    }
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    CHECK_STATUS(dynamo_engine_register("kinds_mirror", &mirror_engine, NULL, NULL), DYNAMO_OK);
    RUN(a_responses_body_is_a_chat_for_engines);
    RUN(the_answer_is_a_response);
    RUN(a_stream_has_events);
    RUN(a_stream_has_the_output_of_the_whole);
    RUN(a_body_is_measured_as_it_was_sent);
    RUN(what_needs_a_service_is_refused_by_name);
    RUN(engines_declare_that_they_rank);
    return 0;
}
