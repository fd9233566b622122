/* SPDX-License-Identifier: Apache-2.0 */
/* The default engine with the demo model. */
#include <stdlib.h>
#include <string.h>

#include "embed.h"

static const char question[] =
    "{'messages': [{'role': 'user', 'content': 'What is a KV cache?'}]%s}";

static dynamo_request_t *question_with(const char *more) {
    char body[512];
    snprintf(body, sizeof body, question, more);
    return ask(body);
}

static answer answer_of(dynamo_runtime_t *runtime, dynamo_request_t *request) {
    answer whole = receive_all(sent(runtime, request));
    CHECK_STATUS(whole.status, DYNAMO_END);
    dynamo_request_destroy(request);
    return whole;
}

static void a_question_is_answered_bit_by_bit(void) {
    dynamo_runtime_t *runtime = start("{'stream': {'capacity': 4}}");
    answer whole = answer_of(runtime, question_with(""));
    CHECK(whole.responses > 1);
    CHECK_TEXT(whole.finish_reason, "stop");
    CHECK_CONTAINS(whole.text, "keys and values");
    CHECK(whole.text[whole.length - 1] == '.');
    CHECK(whole.has_usage && whole.usage.prompt_tokens > 0);
    CHECK(whole.usage.completion_tokens > 4);
    answer_free(&whole);
    finish(runtime);
}

static void an_answer_at_once(dynamo_runtime_t *runtime) {
    answer streamed = answer_of(runtime, question_with(""));
    dynamo_request_t *request = sent(runtime, question_with(", 'stream': false"));
    dynamo_response_t *response = first_of(request);
    CHECK_TEXT(dynamo_response_text(response, NULL), streamed.text);
    CHECK_TEXT(dynamo_response_finish_reason(response), "stop");
    CHECK_CONTAINS(dynamo_response_json(response), "\"chat.completion\"");
    CHECK_CONTAINS(dynamo_response_json(response), "\"usage\"");
    dynamo_free(response);
    CHECK(dynamo_request_recv(request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
    dynamo_request_destroy(request);
    answer_free(&streamed);
}

static void a_prompt_is_completed(dynamo_runtime_t *runtime) {
    answer whole = answer_of(runtime, ask("{'prompt': 'A KV cache', 'max_tokens': 30}"));
    CHECK(whole.length > 0);
    CHECK(whole.has_usage && whole.usage.completion_tokens <= 30);
    answer_free(&whole);
}

static void an_answer_is_limited(dynamo_runtime_t *runtime) {
    const char *keys[] = {", 'max_tokens': 3", ", 'max_completion_tokens': 3"};
    for (int i = 0; i < 2; ++i) {
        answer whole = answer_of(runtime, question_with(keys[i]));
        CHECK_TEXT(whole.finish_reason, "length");
        CHECK(whole.usage.completion_tokens == 3);
        answer_free(&whole);
    }
}

static void an_answer_is_stopped(dynamo_runtime_t *runtime) {
    answer whole = answer_of(runtime, question_with(""));
    char stop[16] = "";
    snprintf(stop, sizeof stop, "%.6s", whole.text + whole.length / 2);
    char more[64];
    snprintf(more, sizeof more, ", 'stop': ['%s']", stop);
    answer stopped = answer_of(runtime, question_with(more));
    CHECK_TEXT(stopped.finish_reason, "stop");
    CHECK(strstr(stopped.text, stop) == NULL);
    CHECK(stopped.length == (size_t)(strstr(whole.text, stop) - whole.text));
    CHECK(strncmp(stopped.text, whole.text, stopped.length) == 0);
    answer_free(&stopped);
    answer_free(&whole);
}

static void requests_that_it_cannot_serve(dynamo_runtime_t *runtime) {
    dynamo_request_t *request = question_with(", 'min_tokens': 2");
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_OK);
    CHECK(dynamo_request_recv(request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_NOT_SUPPORTED);
    CHECK_CONTAINS(dynamo_request_error(request), "\"min_tokens\"");
    CHECK_CONTAINS(dynamo_request_error_json(request), "\"mistralrs\"");
    dynamo_request_destroy(request);

    request = ask("{'input': 'embed me'}");
    check_answer(sent(runtime, request), "", DYNAMO_ERROR_NOT_SUPPORTED);

    char *body = json("{'prompt': 'x', 'max_token': 3}");
    CHECK(dynamo_request_create(body) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_REQUEST);
    CHECK_CONTAINS(dynamo_last_error(), "max_tokens");
    free(body);

    char *prompt = malloc(3 * 3000 + 64);
    CHECK(prompt != NULL);
    strcpy(prompt, "{\"prompt\": \"");
    for (int i = 0; i < 3000; ++i) {
        strcat(prompt, "ab ");
    }
    strcat(prompt, "\"}");
    request = dynamo_request_create(prompt);
    CHECK(request != NULL);
    free(prompt);
    check_answer(sent(runtime, request), "", DYNAMO_ERROR_CONTEXT_LENGTH);
}

static void check_no_start(const char *config, int32_t status, const char *message) {
    char *text = json(config);
    CHECK(dynamo_runtime_create(text) == NULL);
    free(text);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), message);
}

static void models_and_options_that_do_not_exist(void) {
    check_no_start("{'model': '/no/such/model'}", DYNAMO_ERROR_MODEL_NOT_FOUND, "/no/such/model");
    CHECK_CONTAINS(dynamo_last_error(), "does not exist");
    check_no_start("{'model': '" TEST_FOLDER "'}", DYNAMO_ERROR_MODEL_NOT_FOUND, "no config.json");
    check_no_start("{'model': '" TEST_FOLDER "/embed.c'}", DYNAMO_ERROR_MODEL_NOT_FOUND,
                   "is not a model");
    check_no_start("{'options': {'max_seq': 2}}", DYNAMO_ERROR_INVALID_CONFIG,
                   "\"options.max_seqs\"");
    check_no_start("{'options': {'max_seqs': '2'}}", DYNAMO_ERROR_INVALID_CONFIG, "an integer");
    check_no_start("{'options': {'dtype': 'f8'}}", DYNAMO_ERROR_INVALID_CONFIG, "bf16");
}

/* ------------------------------------------------------------------------------- many at once */

enum { threads = 16, rounds = 20 };

static struct {
    dynamo_runtime_t *runtime;
    counter ended, cancelled, destroyed;
} crowd;

static unsigned random_below(unsigned *state, unsigned limit) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 16) % limit;
}

static void *one_of_many(void *argument) {
    unsigned random = (unsigned)(size_t)argument;
    /* mistral.rs is not built for ThreadSanitizer and takes seconds per request under it. */
    const int count = has_sanitizer("thread") ? 1 : rounds;
    for (int round = 0; round < count; ++round) {
        dynamo_request_t *request = question_with(", 'max_tokens': 8");
        sent(crowd.runtime, request);
        const unsigned fate = random_below(&random, 4);
        for (unsigned pieces = random_below(&random, 4); pieces > 0; --pieces) {
            dynamo_free(dynamo_request_recv(request));
        }
        if (fate == 0) {
            dynamo_request_destroy(request);
            add(&crowd.destroyed, 1);
            continue;
        }
        if (fate == 1) {
            CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        }
        answer whole = receive_all(request);
        CHECK(whole.status == DYNAMO_END || (fate == 1 && whole.status == DYNAMO_ERROR_CANCELLED));
        CHECK_STATUS(dynamo_request_status(request), whole.status);
        add(whole.status == DYNAMO_END ? &crowd.ended : &crowd.cancelled, 1);
        answer_free(&whole);
        dynamo_request_destroy(request);
    }
    return NULL;
}

static void many_threads_that_change_their_minds(void) {
    crowd.runtime = start("{}");
    pthread_t all[threads];
    for (size_t i = 0; i < threads; ++i) {
        all[i] = spawn(one_of_many, (void *)(i + 1));
    }
    for (size_t i = 0; i < threads; ++i) {
        join(all[i]);
    }
    CHECK_STATUS(dynamo_runtime_shutdown(crowd.runtime, -1), DYNAMO_OK);
    const long long sent_in_all = statistic(crowd.runtime, "sent");
    CHECK(statistic(crowd.runtime, "in_flight") == 0 && statistic(crowd.runtime, "failed") == 0);
    CHECK(statistic(crowd.runtime, "ended") + statistic(crowd.runtime, "cancelled") == sent_in_all);
    CHECK(get(&crowd.ended) + get(&crowd.cancelled) + get(&crowd.destroyed) == sent_in_all);
    CHECK(statistic(crowd.runtime, "ended") >= get(&crowd.ended));
    CHECK(statistic(crowd.runtime, "cancelled") >= get(&crowd.cancelled));
    CHECK(statistic(crowd.runtime, "received") <= statistic(crowd.runtime, "pushed"));
    dynamo_runtime_destroy(crowd.runtime);
}

int main(void) {
    BEGIN();
    RUN(a_question_is_answered_bit_by_bit);
    dynamo_runtime_t *runtime = start("{}");
    void (*const scenarios[])(dynamo_runtime_t *) = {an_answer_at_once, a_prompt_is_completed,
                                                     an_answer_is_limited, an_answer_is_stopped,
                                                     requests_that_it_cannot_serve};
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; ++i) {
        fprintf(stderr, "  scenario %d with one runtime\n", (int)i);
        scenarios[i](runtime);
    }
    finish(runtime);
    RUN(models_and_options_that_do_not_exist);
    RUN(many_threads_that_change_their_minds);
    return 0;
}
