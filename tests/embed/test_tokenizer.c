/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer of the demo model, from C and from many threads. */
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "embed.h"

static const char question[] = "What is a KV cache?";
static const uint32_t question_ids[] = {432, 289, 262, 399, 397, 35};
static const char letters[] = "h\xc3\xa9llo \xf0\x9f\x98\x80 w\xc3\xb6rld";
static const uint32_t letter_ids[] = {76, 719, 326, 83, 1041, 251, 227, 283, 132, 119, 86, 1351};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static dynamo_tokenizer_t *open_demo(void) {
    dynamo_tokenizer_t *tokenizer = dynamo_tokenizer_create("{}");
    CHECK(tokenizer != NULL);
    return tokenizer;
}

static void check_ids(dynamo_tokenizer_t *tokenizer, const char *text, size_t length,
                      const uint32_t *expected, size_t expected_count) {
    uint32_t *ids;
    size_t count;
    CHECK_STATUS(dynamo_tokenizer_encode(tokenizer, text, length, 0, &ids, &count), DYNAMO_OK);
    CHECK(count == expected_count);
    CHECK(count == 0 ? ids == NULL : memcmp(ids, expected, count * sizeof *ids) == 0);
    dynamo_free(ids);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
}

/* Frees the text. */
static void check_owned(char *text, const char *expected) {
    CHECK(text != NULL);
    CHECK_TEXT(text, expected);
    dynamo_free(text);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
}

static void there_and_back(dynamo_tokenizer_t *tokenizer) {
    check_ids(tokenizer, question, strlen(question), question_ids, COUNT(question_ids));
    check_ids(tokenizer, letters, strlen(letters), letter_ids, COUNT(letter_ids));
    check_ids(tokenizer, question, 4, question_ids, 1);
    check_ids(tokenizer, "", 0, NULL, 0);
    check_ids(tokenizer, NULL, 0, NULL, 0);
    size_t length = 0;
    char *text = dynamo_tokenizer_decode(tokenizer, letter_ids, COUNT(letter_ids), 1, &length);
    CHECK(length == strlen(letters));
    check_owned(text, letters);
    check_owned(dynamo_tokenizer_decode(tokenizer, NULL, 0, 1, NULL), "");
    const uint32_t ends[] = {0, 432, 0};
    check_owned(dynamo_tokenizer_decode(tokenizer, ends, 3, 1, NULL), "What");
    check_owned(dynamo_tokenizer_decode(tokenizer, ends, 3, 0, NULL), "<|end|>What<|end|>");
}

static void a_nul_byte_is_a_character(dynamo_tokenizer_t *tokenizer) {
    uint32_t *ids;
    size_t count, length;
    CHECK_STATUS(dynamo_tokenizer_encode(tokenizer, "a\0b", 3, 0, &ids, &count), DYNAMO_OK);
    char *text = dynamo_tokenizer_decode(tokenizer, ids, count, 1, &length);
    CHECK(length == 3 && memcmp(text, "a\0b", 4) == 0);
    dynamo_free(text);
    dynamo_free(ids);
}

static void info(dynamo_tokenizer_t *tokenizer) {
    char *text = dynamo_tokenizer_info(tokenizer);
    CHECK(text != NULL);
    CHECK_CONTAINS(text, "\"vocabulary_size\":2048");
    CHECK_CONTAINS(text, "\"largest_token_id\":2047");
    CHECK_CONTAINS(text, "\"eos_token_ids\":[0]");
    CHECK_CONTAINS(text, "\"has_chat_template\":true");
    CHECK_CONTAINS(text, "\"context_length\":1024");
    dynamo_free(text);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK); /* so the caller owned it */
}

static char *prompt_of(dynamo_tokenizer_t *tokenizer, const char *body, size_t *length) {
    char *text = json(body);
    char *prompt = dynamo_tokenizer_apply_template(tokenizer, text, length);
    free(text);
    return prompt;
}

static void template(dynamo_tokenizer_t *tokenizer) {
    size_t length;
    char *prompt = prompt_of(
        tokenizer, "{'messages': [{'role': 'user', 'content': 'What is a KV cache?'}]}", &length);
    CHECK(prompt != NULL && length == strlen(prompt));
    static const uint32_t expected[] = {1, 3, 432, 289, 262, 399, 397, 35, 0, 4};
    check_ids(tokenizer, prompt, length, expected, COUNT(expected));
    check_owned(prompt, "<|begin|><|user|>What is a KV cache?<|end|><|assistant|>");
    check_owned(prompt_of(tokenizer,
                          "{'messages': [{'role': 'assistant', 'content': 'a'}],"
                          " 'continue_final_message': true}",
                          NULL),
                "<|begin|><|assistant|>a");
    static const struct {
        const char *body;
        int32_t status;
        const char *message;
    } mistakes[] = {
        {"{'messages': [{'role': 'user', 'content': 'a'}], 'chat_template': '{{ 9 ** (9 ** 9) }}'}",
         DYNAMO_ERROR_INVALID_REQUEST, "trust_request_chat_template"},
        {"{'messages': [", DYNAMO_ERROR_INVALID_JSON, "line 1"},
        {"{'prompt': 'a'}", DYNAMO_ERROR_INVALID_REQUEST, "body of a chat"},
        {"{'messages': []}", DYNAMO_ERROR_INVALID_REQUEST, "is empty"},
    };
    for (size_t i = 0; i < COUNT(mistakes); ++i) {
        length = 9;
        CHECK(prompt_of(tokenizer, mistakes[i].body, &length) == NULL && length == 0);
        CHECK_STATUS(dynamo_last_status(), mistakes[i].status);
        CHECK_CONTAINS(dynamo_last_error(), mistakes[i].message);
    }
}

static void template_of_the_caller(void) {
    char *config = json("{'trust_request_chat_template': true, 'templates': {'timeout_ms': 3000}}");
    dynamo_tokenizer_t *tokenizer = dynamo_tokenizer_create(config);
    free(config);
    CHECK(tokenizer != NULL);
    static const struct {
        const char *template;
        const char *message;
    } mistakes[] = {
        {"{{ raise_exception(messages[0].content + messages[0].content) }}", "aa"},
        {"{{ 1 / 0 }}", "ZeroDivisionError"},
        {"{{ 9 ** (9 ** 9) }}", "3 seconds"},
    };
    for (size_t i = 0; i < COUNT(mistakes); ++i) {
        char body[200];
        snprintf(body, sizeof body,
                 "{'messages': [{'role': 'user', 'content': 'a'}], 'chat_template': '%s'}",
                 mistakes[i].template);
        CHECK(prompt_of(tokenizer, body, NULL) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
        CHECK_CONTAINS(dynamo_last_error(), mistakes[i].message);
    }
    check_owned(prompt_of(tokenizer,
                          "{'messages': [{'role': 'user', 'content': 'a'}],"
                          " 'chat_template': '<{{ messages[0].content }}>'}",
                          NULL),
                "<a>");
    dynamo_tokenizer_destroy(tokenizer);
}

static void bit_by_bit(dynamo_tokenizer_t *tokenizer) {
    dynamo_detokenizer_t *detokenizer = dynamo_detokenizer_create(tokenizer, 1);
    CHECK(detokenizer != NULL);
    for (size_t step = 1; step <= COUNT(letter_ids); ++step) {
        char whole[64] = "";
        for (size_t i = 0; i < COUNT(letter_ids); i += step) {
            const size_t left = COUNT(letter_ids) - i;
            size_t length;
            char *text = dynamo_detokenizer_add(detokenizer, letter_ids + i,
                                                left < step ? left : step, &length);
            CHECK(text != NULL && is_utf8(text) && strlen(text) == length);
            strcat(whole, text);
            dynamo_free(text);
        }
        CHECK_TEXT(whole, letters);
        check_owned(dynamo_detokenizer_finish(detokenizer, NULL), "");
    }
    check_owned(dynamo_detokenizer_add(detokenizer, NULL, 0, NULL), "");
    dynamo_detokenizer_destroy(detokenizer);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
}

static void check_argument(const char *message) {
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), message);
}

static void wrong_arguments(dynamo_tokenizer_t *tokenizer) {
    uint32_t *ids;
    size_t count;
    CHECK(dynamo_tokenizer_create(NULL) == NULL);
    check_argument("config_json is NULL");
    CHECK(dynamo_tokenizer_encode(tokenizer, NULL, 1, 0, &ids, &count) < 0);
    check_argument("text is NULL");
    CHECK(dynamo_tokenizer_encode(tokenizer, "a", 1, 0, NULL, &count) < 0);
    check_argument("ids is NULL");
    CHECK(dynamo_tokenizer_encode(tokenizer, "a", 1, 0, &ids, NULL) < 0);
    check_argument("count is NULL");
    CHECK(dynamo_tokenizer_encode(tokenizer, "a", 1, 2, &ids, &count) < 0);
    check_argument("add_special_tokens must be 0 or 1, not 2");
    CHECK(dynamo_tokenizer_encode(tokenizer, letters, 8, 0, &ids, &count) < 0);
    check_argument("not UTF-8: its byte 7 ");
    CHECK(ids == NULL && count == 0);
    CHECK(dynamo_tokenizer_encode(tokenizer, "abcdefghij\xed\xa0\x80", 13, 0, &ids, &count) < 0);
    check_argument("not UTF-8: its byte 10 ");
    CHECK(dynamo_tokenizer_decode(tokenizer, NULL, 1, 0, NULL) == NULL);
    check_argument("ids is NULL");
    CHECK(dynamo_tokenizer_decode(tokenizer, question_ids, 1, -1, NULL) == NULL);
    check_argument("skip_special_tokens must be 0 or 1, not -1");
    const uint32_t over[] = {1, 2048};
    CHECK(dynamo_tokenizer_decode(tokenizer, over, 2, 0, NULL) == NULL);
    check_argument("ids[1] is 2048, but the tokenizer's token ids are from 0 to 2047");
    CHECK(dynamo_tokenizer_apply_template(tokenizer, NULL, NULL) == NULL);
    check_argument("chat_json is NULL");
    CHECK(dynamo_detokenizer_create(tokenizer, 7) == NULL);
    check_argument("skip_special_tokens must be 0 or 1, not 7");
    dynamo_detokenizer_t *detokenizer = dynamo_detokenizer_create(tokenizer, 0);
    CHECK(dynamo_detokenizer_add(detokenizer, NULL, 1, NULL) == NULL);
    check_argument("ids is NULL");
    CHECK(dynamo_detokenizer_add(detokenizer, over, 2, NULL) == NULL);
    check_argument("ids[1] is 2048");
    dynamo_detokenizer_destroy(detokenizer);
}

static void wrong_configurations(void) {
    static const struct {
        const char *config;
        int32_t status;
        const char *message;
    } mistakes[] = {
        {"{", DYNAMO_ERROR_INVALID_JSON, "line 1"},
        {"[]", DYNAMO_ERROR_INVALID_CONFIG, "not an array"},
        {"{'modle': 'x'}", DYNAMO_ERROR_INVALID_CONFIG, "did you mean \"model\"?"},
        {"{'engine': 'echo'}", DYNAMO_ERROR_INVALID_CONFIG, "known keys: model, offline, python"},
        {"{'python': {'paht': []}}", DYNAMO_ERROR_INVALID_CONFIG, "did you mean \"python.path\"?"},
        {"{'model': 3}", DYNAMO_ERROR_INVALID_CONFIG, "must be a string, not 3"},
        {"{'model': '/no/such'}", DYNAMO_ERROR_MODEL_NOT_FOUND, "\"/no/such\" does not exist"},
        {"{'model': '" TEST_FOLDER "'}", DYNAMO_ERROR_MODEL_NOT_FOUND, "has no tokenizer.json"},
        {"{'model': '" TEST_FOLDER "/embed.c'}", DYNAMO_ERROR_MODEL_NOT_FOUND,
         "is not a tokenizer"},
    };
    for (size_t i = 0; i < COUNT(mistakes); ++i) {
        char *config = json(mistakes[i].config);
        CHECK(dynamo_tokenizer_create(config) == NULL);
        free(config);
        CHECK_STATUS(dynamo_last_status(), mistakes[i].status);
        CHECK_CONTAINS(dynamo_last_error(), mistakes[i].message);
    }
    CHECK_CONTAINS(dynamo_last_error_json(), "\"engine\":\"tokenizer\"");
}

/* --------------------------------------------------------------------------------------- handles */

static void check_rejected(void *handle, int kind) {
    for (size_t i = 0; i < call_count; ++i) {
        if ((int)calls[i].kind != kind) {
            CHECK_STATUS(calls[i].call(handle), DYNAMO_ERROR_INVALID_HANDLE);
            CHECK(dynamo_last_error()[0] != 0);
        }
    }
}

static void wrong_handles(void) {
    dynamo_tokenizer_t *tokenizer = open_demo();
    dynamo_detokenizer_t *detokenizer = dynamo_detokenizer_create(tokenizer, 1);
    dynamo_request_t *request = say("a");
    check_rejected(tokenizer, TOKENIZER);
    check_rejected(detokenizer, DETOKENIZER);
    check_rejected(request, REQUEST);
    CHECK(dynamo_detokenizer_add((dynamo_detokenizer_t *)tokenizer, NULL, 0, NULL) == NULL);
    CHECK_TEXT(dynamo_last_error(), "not a valid detokenizer: it is a tokenizer");
    CHECK(dynamo_tokenizer_info((dynamo_tokenizer_t *)detokenizer) == NULL);
    CHECK_TEXT(dynamo_last_error(), "not a valid tokenizer: it is a detokenizer");
    dynamo_free(tokenizer);
    CHECK_CONTAINS(dynamo_last_error(), "a tokenizer; call dynamo_tokenizer_destroy() instead");
    dynamo_free(detokenizer);
    CHECK_CONTAINS(dynamo_last_error(), "a detokenizer; call dynamo_detokenizer_destroy() instead");
    /* The valid handles still work, and the child keeps its parent alive. */
    check_ids(tokenizer, question, strlen(question), question_ids, COUNT(question_ids));
    dynamo_tokenizer_destroy(tokenizer);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    check_rejected(tokenizer, -1);
    check_owned(dynamo_detokenizer_add(detokenizer, question_ids, COUNT(question_ids), NULL),
                question);
    dynamo_detokenizer_destroy(detokenizer);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    check_rejected(detokenizer, -1);
    check_rejected(tokenizer, -1);
    dynamo_request_destroy(request);
}

static void what_is_owned_is_freed_once(dynamo_tokenizer_t *tokenizer) {
    uint32_t *ids;
    size_t count;
    CHECK_STATUS(dynamo_tokenizer_encode(tokenizer, question, strlen(question), 0, &ids, &count),
                 DYNAMO_OK);
    dynamo_free(ids + 1);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK(ids[0] == question_ids[0]);
    dynamo_free(ids);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    dynamo_free(ids);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_HANDLE);
}

/* ------------------------------------------------------------------------------- many at once */

enum { thread_count = 16 };

static struct {
    dynamo_tokenizer_t *tokenizer;
    dynamo_detokenizer_t *shared;
    counter shared_bytes, ended, refused;
} crowd;

static int rounds(void) {
    const int scaled = (int)(100 * scale());
    return scaled < 2 ? 2 : scaled;
}

static void *encode_and_decode(void *argument) {
    const int number = (int)(size_t)argument;
    dynamo_detokenizer_t *own = dynamo_detokenizer_create(crowd.tokenizer, 1);
    for (int round = 0; round < rounds(); ++round) {
        char text[64];
        snprintf(text, sizeof text, "%d \xf0\x9f\x98\x80 %d", number, round);
        uint32_t *ids;
        size_t count, length;
        CHECK_STATUS(dynamo_tokenizer_encode(crowd.tokenizer, text, strlen(text), 0, &ids, &count),
                     DYNAMO_OK);
        char *decoded = dynamo_tokenizer_decode(crowd.tokenizer, ids, count, 1, NULL);
        CHECK_TEXT(decoded, text);
        dynamo_free(decoded);
        char whole[64] = "";
        for (size_t i = 0; i < count; ++i) {
            char *piece = dynamo_detokenizer_add(own, ids + i, 1, NULL);
            CHECK(piece != NULL && is_utf8(piece));
            strcat(whole, piece);
            dynamo_free(piece);
        }
        CHECK_TEXT(whole, text);
        check_owned(dynamo_detokenizer_finish(own, NULL), "");
        dynamo_free(ids);
        char *of_all =
            dynamo_detokenizer_add(crowd.shared, question_ids, COUNT(question_ids), &length);
        CHECK(of_all != NULL && length == strlen(question));
        dynamo_free(of_all);
        add(&crowd.shared_bytes, (long)length);
    }
    dynamo_detokenizer_destroy(own);
    return NULL;
}

static void many_threads_while_requests_run(void) {
    dynamo_runtime_t *runtime = start_engine("echoes:Async", "'options': {'repeat': 200}");
    dynamo_request_t *requests[8];
    for (int i = 0; i < 8; ++i) {
        requests[i] = sent(runtime, say("x"));
    }
    crowd.tokenizer = open_demo();
    crowd.shared = dynamo_detokenizer_create(crowd.tokenizer, 1);
    pthread_t threads[thread_count];
    for (size_t i = 0; i < thread_count; ++i) {
        threads[i] = spawn(encode_and_decode, (void *)i);
    }
    for (int i = 0; i < 8; ++i) {
        answer whole = receive_all(requests[i]);
        CHECK_STATUS(whole.status, DYNAMO_END);
        CHECK(whole.length == 400);
        answer_free(&whole);
        dynamo_request_destroy(requests[i]);
    }
    for (size_t i = 0; i < thread_count; ++i) {
        join(threads[i]);
    }
    CHECK(get(&crowd.shared_bytes) == (long)strlen(question) * thread_count * rounds());
    dynamo_detokenizer_destroy(crowd.shared);
    dynamo_tokenizer_destroy(crowd.tokenizer);
    finish(runtime);
}

static void *encode_until_refused(void *argument) {
    (void)argument;
    uint32_t *ids;
    size_t count;
    int32_t status;
    while ((status = dynamo_tokenizer_encode(crowd.tokenizer, "a", 1, 0, &ids, &count)) ==
           DYNAMO_OK) {
        dynamo_free(ids);
        add(&crowd.ended, 1);
    }
    CHECK_STATUS(status, DYNAMO_ERROR_INVALID_HANDLE);
    add(&crowd.refused, 1);
    return NULL;
}

static void destroyed_while_others_use_it(void) {
    crowd.tokenizer = open_demo();
    pthread_t threads[4];
    for (int i = 0; i < 4; ++i) {
        threads[i] = spawn(encode_until_refused, NULL);
    }
    EVENTUALLY(get(&crowd.ended) > 20);
    dynamo_tokenizer_destroy(crowd.tokenizer);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
    for (int i = 0; i < 4; ++i) {
        join(threads[i]);
    }
    CHECK(get(&crowd.refused) == 4);
}

static void they_come_and_go(void) {
    const long before = count_of("/proc/self/fd");
    for (int i = 0; i < 10; ++i) {
        dynamo_tokenizer_t *tokenizer = open_demo();
        check_ids(tokenizer, question, strlen(question), question_ids, COUNT(question_ids));
        dynamo_tokenizer_destroy(tokenizer);
    }
    CHECK(count_of("/proc/self/fd") <= before);
}

int main(void) {
    BEGIN();
    dynamo_tokenizer_t *tokenizer = open_demo();
    fprintf(stderr, "  there_and_back ... what_is_owned_is_freed_once\n");
    there_and_back(tokenizer);
    a_nul_byte_is_a_character(tokenizer);
    info(tokenizer);
    template(tokenizer);
    bit_by_bit(tokenizer);
    wrong_arguments(tokenizer);
    what_is_owned_is_freed_once(tokenizer);
    dynamo_tokenizer_destroy(tokenizer);
    RUN(template_of_the_caller);
    RUN(wrong_configurations);
    RUN(wrong_handles);
    RUN(many_threads_while_requests_run);
    RUN(destroyed_while_others_use_it);
    RUN(they_come_and_go);
    return 0;
}
