/* SPDX-License-Identifier: Apache-2.0 */
/* Request bodies: which are accepted, and which keys an engine declares itself. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* An engine that answers with the body it received. */
typedef struct mirror {
    const char *description;
} mirror;

static int32_t mirror_start(void *user, const char *config, void **instance) {
    (void)config;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t mirror_generate(void *instance, dynamo_stream_t *stream, const char *id,
                               const char *body) {
    (void)instance;
    (void)id;
    const dynamo_chunk_t chunk = {
        .struct_size = sizeof chunk, .text = body, .text_length = strlen(body), .token_count = 1};
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    return dynamo_stream_finish(stream, "stop", NULL);
}

static void mirror_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    dynamo_stream_finish(stream, NULL, NULL);
}

static void mirror_stop(void *instance) {
    (void)instance;
}

static const char *mirror_describe(void *instance) {
    return ((mirror *)instance)->description;
}

static const dynamo_engine_t mirror_engine = {
    .struct_size = sizeof mirror_engine,
    .start = mirror_start,
    .generate = mirror_generate,
    .cancel = mirror_cancel,
    .stop = mirror_stop,
    .describe = mirror_describe,
};

static mirror plain = {"{\"capabilities\": [\"chat\"]}"};
static mirror typical = {"{\"request_keys\": [\"top_a\", \"typical_q\"]}"};
static mirror several = {"{\"models\": [{\"id\": \"m\", \"request_keys\": [\"mirostat\"]}]}"};
static mirror wrong = {"{\"request_keys\": \"top_a\"}"};
static mirror wrong_item = {"{\"request_keys\": [3]}"};

/* --- bodies --- */

static void accept(const char *body) {
    char *text = json(body);
    dynamo_request_t *request = dynamo_request_create(text);
    if (request == NULL) {
        fprintf(stderr, "%s: %s\n", text, dynamo_last_error());
    }
    CHECK(request != NULL);
    dynamo_request_destroy(request);
    free(text);
}

static void refuse(const char *body, int32_t status, const char *part) {
    char *text = json(body);
    CHECK(dynamo_request_create(text) == NULL);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), part);
    free(text);
}

#define CHAT "'messages': [{'role': 'user', 'content': 'hi'}]"

static void keys_of_real_clients_are_accepted(void) {
    static const char *const keys[] = {
        "'prompt_cache_key': 'a'",
        "'prompt_cache_retention': '24h'",
        "'prompt_cache_options': {}",
        "'web_search_options': {'search_context_size': 'low'}",
        "'audio': {'voice': 'alloy', 'format': 'wav'}",
        "'functions': [], 'function_call': 'none'",
        "'function_call': {'name': 'f'}",
        "'moderation': {'model': 'm'}",
        "'structured_outputs': {'regex': 'a'}",
        "'bad_words': ['a']",
        "'allowed_token_ids': [1, 2]",
        "'length_penalty': 1.2",
        "'truncate_prompt_tokens': -1",
        "'return_token_ids': true",
        "'request_id': 'mine'",
        "'cache_salt': 's'",
        "'extra': {'any': ['thing']}",
        "'stream_options': {'include_usage': true, 'include_obfuscation': false}",
        "'store': true, 'metadata': {'a': 'b'}, 'service_tier': 'flex', 'verbosity': 'low'",
    };
    char body[512];
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
        snprintf(body, sizeof body, "{" CHAT ", %s}", keys[i]);
        accept(body);
    }
}

static void null_is_as_absent(void) {
    static const char *const keys[] = {
        "audio",
        "bad_words",
        "extra",
        "function_call",
        "functions",
        "moderation",
        "max_tokens",
        "tools",
        "web_search_options",
        "stream_options",
        "request_id",
        "tool_choice",
        "suffix",
        "best_of",
        "encoding_format",
        "response_format",
        "seed",
        "prediction",
        "parallel_tool_calls",
        "logit_bias",
    };
    char body[256];
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
        snprintf(body, sizeof body, "{" CHAT ", '%s': null}", keys[i]);
        accept(body);
        snprintf(body, sizeof body, "{'prompt': 'a', '%s': null}", keys[i]);
        accept(body);
        snprintf(body, sizeof body, "{'input': 'a', '%s': null}", keys[i]);
        accept(body);
    }
    refuse("{" CHAT ", 'max_token': null}", DYNAMO_ERROR_INVALID_REQUEST,
           "did you mean \"max_tokens\"?");
    refuse("{'prompt': null}", DYNAMO_ERROR_INVALID_REQUEST, "not null");
}

static void an_assistant_may_have_no_content(void) {
    static const char *const messages[] = {
        "'content': null, 'tool_calls': [{'id': 'c'}]",
        "'tool_calls': [{'id': 'c'}]",
        "'content': null, 'function_call': {'name': 'f', 'arguments': '{}'}",
        "'content': null, 'refusal': 'no', 'tool_calls': null",
        "'content': null, 'audio': {'id': 'a'}",
        "'content': null, 'reasoning_content': 'hm'",
        "'reasoning': 'hm'",
        "'content': '', 'refusal': null, 'annotations': null, 'audio': null, 'function_call': null",
        "'content': [{'type': 'output_text', 'text': 'a'}]",
    };
    char body[256];
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; ++i) {
        snprintf(body, sizeof body, "{'messages': [{'role': 'assistant', %s}]}", messages[i]);
        accept(body);
    }
    static const char *const empty[] = {
        "'role': 'assistant', 'content': null",
        "'role': 'assistant', 'content': null, 'tool_calls': null, 'refusal': null",
        "'role': 'assistant', 'tool_calls': []",
        "'role': 'user'",
        "'role': 'user', 'content': 3",
    };
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; ++i) {
        snprintf(body, sizeof body, "{'messages': [{%s}]}", empty[i]);
        refuse(body, DYNAMO_ERROR_INVALID_REQUEST, "\"messages[0]\" of the request needs a");
    }
}

static void wrong_values_are_refused(void) {
    refuse("{" CHAT ", 'extra': 3}", DYNAMO_ERROR_INVALID_REQUEST, "\"extra\"");
    refuse("{" CHAT ", 'bad_words': 'a'}", DYNAMO_ERROR_INVALID_REQUEST, "an array");
    refuse("{" CHAT ", 'truncate_prompt_tokens': -2}", DYNAMO_ERROR_INVALID_REQUEST, "from -1 to");
    refuse("{" CHAT ", 'audio': 'loud'}", DYNAMO_ERROR_INVALID_REQUEST, "an object");
    refuse("{" CHAT ", 'stream_options': {'include_usage': 1}}", DYNAMO_ERROR_INVALID_REQUEST,
           "\"stream_options.include_usage\"");
    refuse("{" CHAT ", 'stream_options': {'continuous_usage_stats': true}}",
           DYNAMO_ERROR_NOT_SUPPORTED, "continuous_usage_stats");
}

/* --- keys that engines declare --- */

static dynamo_runtime_t *start_mirror(const char *name) {
    char config[64];
    snprintf(config, sizeof config, "{'engine': '%s'}", name);
    return start(config);
}

/* Sends a body and checks that the answer contains `part`, or that the body is rejected. */
static void check_sent(dynamo_runtime_t *runtime, const char *body, const char *part,
                       int is_refused) {
    dynamo_request_t *request = ask(body);
    const int32_t status = dynamo_request_send(runtime, request);
    if (is_refused) {
        CHECK_STATUS(status, DYNAMO_ERROR_INVALID_REQUEST);
        CHECK_CONTAINS(dynamo_last_error(), part);
    } else {
        CHECK_STATUS(status, DYNAMO_OK);
        answer whole = receive_all(request);
        CHECK_CONTAINS(whole.text, part);
        answer_free(&whole);
    }
    dynamo_request_destroy(request);
}

static void engines_declare_their_keys(void) {
    const char *top_a = "{'prompt': 'a', 'top_a': 0.5}";
    refuse(top_a, DYNAMO_ERROR_INVALID_REQUEST, "unknown key \"top_a\" in the request");
    dynamo_runtime_t *with = start_mirror("typical");
    dynamo_runtime_t *without = start_mirror("plain");
    dynamo_runtime_t *models = start_mirror("several");
    check_sent(with, top_a, "\"top_a\": 0.5", 0);
    check_sent(with, "{" CHAT ", 'typical_q': null}", "typical_q", 0);
    check_sent(without, top_a,
               "unknown key \"top_a\" in the request for the engine \"plain\"; did you mean "
               "\"top_",
               1);
    check_sent(models, "{'prompt': 'a', 'mirostat': 2}", "\"mirostat\": 2", 0);
    check_sent(with, "{'prompt': 'a', 'mirostat': 2}",
               "for the engine \"typical\"; known keys: ", 1);
    /* A misspelled key is named in the error, whether the engine or the library declares it. */
    refuse("{'prompt': 'a', 'typical_k': 1}", DYNAMO_ERROR_INVALID_REQUEST,
           "did you mean \"typical_q\"?");
    refuse("{'prompt': 'a', 'temprature': 1}", DYNAMO_ERROR_INVALID_REQUEST,
           "did you mean \"temperature\"?");
    /* "extra" is passed to every engine unchanged. */
    check_sent(without, "{'prompt': 'a', 'extra': {'x': [1, {'y': null}]}}",
               "\"extra\": {\"x\": [1, {\"y\": null}]}", 0);
    dynamo_runtime_destroy(with);
    dynamo_runtime_destroy(without);
    dynamo_runtime_destroy(models);
}

static void a_refused_request_can_be_sent_elsewhere(void) {
    dynamo_runtime_t *with = start_mirror("typical");
    dynamo_runtime_t *without = start_mirror("plain");
    dynamo_request_t *request = ask("{'prompt': 'a', 'top_a': 0.5}");
    CHECK_STATUS(dynamo_request_send(without, request), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_STATUS(dynamo_request_send(with, request), DYNAMO_OK);
    answer whole = receive_all(request);
    CHECK_CONTAINS(whole.text, "top_a");
    answer_free(&whole);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(with);
    dynamo_runtime_destroy(without);
}

static void wrong_declarations_fail_the_start(void) {
    static const char *const names[] = {"wrong", "wrong_item"};
    for (size_t i = 0; i < 2; ++i) {
        char config[64];
        snprintf(config, sizeof config, "{\"engine\": \"%s\"}", names[i]);
        CHECK(dynamo_runtime_create(config) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
        CHECK_CONTAINS(dynamo_last_error(), "\"request_keys\"");
    }
}

static void a_request_id_is_the_id_of_the_response(void) {
    dynamo_runtime_t *runtime = start_echo();
    static const char *const bodies[] = {"{'prompt': 'a', 'request_id': 'mine'}",
                                         "{" CHAT ", 'request_id': 'mine'}"};
    static const char *const ids[] = {"\"id\":\"cmpl-mine\"", "\"id\":\"chatcmpl-mine\""};
    for (size_t i = 0; i < 2; ++i) {
        dynamo_request_t *request = sent(runtime, ask(bodies[i]));
        dynamo_response_t *response = dynamo_request_recv(request);
        CHECK(response != NULL);
        CHECK_CONTAINS(dynamo_response_json(response), ids[i]);
        dynamo_free(response);
        dynamo_request_destroy(request);
    }
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    CHECK_STATUS(dynamo_engine_register("plain", &mirror_engine, &plain, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_register("typical", &mirror_engine, &typical, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_register("several", &mirror_engine, &several, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_register("wrong", &mirror_engine, &wrong, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_register("wrong_item", &mirror_engine, &wrong_item, NULL),
                 DYNAMO_OK);
    RUN(keys_of_real_clients_are_accepted);
    RUN(null_is_as_absent);
    RUN(an_assistant_may_have_no_content);
    RUN(wrong_values_are_refused);
    RUN(engines_declare_their_keys);
    RUN(a_refused_request_can_be_sent_elsewhere);
    RUN(wrong_declarations_fail_the_start);
    RUN(a_request_id_is_the_id_of_the_response);
    return 0;
}
