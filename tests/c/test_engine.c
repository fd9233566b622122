/* SPDX-License-Identifier: Apache-2.0 */
/* An engine that the program registers, through the same interface as the built-in engines. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* ---------------------------------------------------------------- an engine that tests control */

typedef struct lab {
    counter starts;
    counter generates;
    counter cancels;
    counter spaces;
    counter stops;
    counter releases;
    counter in_flight;       /* streams that are not finished yet */
    dynamo_stream_t *stream; /* of the latest request */
    int32_t refuse_with;     /* status that start() or generate() fails with */
    int refuse_silently;
    int push_first; /* before it rejects the request */
    char config[256];
    char body[256];
} lab;

static int32_t lab_start(void *user, const char *config, void **instance) {
    lab *here = user;
    snprintf(here->config, sizeof here->config, "%s", config);
    if (here->refuse_with < 0) {
        return dynamo_engine_error(here->refuse_with, "will not start", NULL);
    }
    add(&here->starts, 1);
    *instance = here;
    return DYNAMO_OK;
}

static int32_t lab_generate(void *instance, dynamo_stream_t *stream, const char *id,
                            const char *body) {
    lab *here = instance;
    CHECK(strncmp(id, "req-", 4) == 0);
    snprintf(here->body, sizeof here->body, "%s", body);
    add(&here->generates, 1);
    here->stream = stream;
    if (here->push_first) {
        const dynamo_chunk_t chunk = {
            .struct_size = sizeof chunk, .text = "early", .text_length = 5};
        CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_OK);
    }
    if (here->refuse_with < 0) {
        return here->refuse_silently
                   ? here->refuse_with
                   : dynamo_engine_error(here->refuse_with, "not now", "{\"queue\": 7}");
    }
    add(&here->in_flight, 1);
    return DYNAMO_OK;
}

static void lab_cancel(void *instance, dynamo_stream_t *stream) {
    lab *here = instance;
    add(&here->cancels, 1);
    if (here->stream == stream) {
        add(&here->in_flight, -1);
        dynamo_stream_finish(stream, NULL, NULL);
    }
}

static void lab_on_writable(void *instance, dynamo_stream_t *stream) {
    (void)stream;
    add(&((lab *)instance)->spaces, 1);
}

static void lab_stop(void *instance) {
    lab *here = instance;
    CHECK(get(&here->in_flight) == 0);
    CHECK(get(&here->releases) == 0);
    add(&here->stops, 1);
}

static void lab_release(void *user) {
    add(&((lab *)user)->releases, 1);
}

static const dynamo_engine_t lab_engine = {
    .struct_size = sizeof lab_engine,
    .start = lab_start,
    .generate = lab_generate,
    .cancel = lab_cancel,
    .on_writable = lab_on_writable,
    .stop = lab_stop,
};

static dynamo_runtime_t *open_lab(lab *here, const char *config) {
    memset(here, 0, sizeof *here);
    CHECK_STATUS(dynamo_engine_register("lab", &lab_engine, here, lab_release), DYNAMO_OK);
    return start(config);
}

static void close_lab(lab *here, dynamo_runtime_t *runtime) {
    CHECK_STATUS(dynamo_engine_unregister("lab"), DYNAMO_OK);
    CHECK(get(&here->releases) == 0); /* an instance still exists */
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    CHECK(get(&here->starts) == get(&here->stops));
    CHECK(get(&here->releases) == 1);
    dynamo_runtime_destroy(runtime);
    CHECK(get(&here->stops) == 1 && get(&here->releases) == 1);
}

static dynamo_chunk_t text_chunk(const char *text) {
    dynamo_chunk_t chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.struct_size = sizeof chunk;
    chunk.text = text;
    chunk.text_length = strlen(text);
    return chunk;
}

static void finish(lab *here, const char *reason, const dynamo_usage_t *usage) {
    add(&here->in_flight, -1);
    CHECK_STATUS(dynamo_stream_finish(here->stream, reason, usage), DYNAMO_OK);
}

/* --------------------------------------------------------------------------------------- tests */

static void a_request_from_its_start_to_its_end(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab', 'options': {'own': [1]}}");
    CHECK_CONTAINS(here.config, "\"own\": [1]");
    dynamo_request_t *request = sent(runtime, ask("{'prompt': 'hi', 'seed': 3}"));
    CHECK_TEXT(here.body, "{\"prompt\": \"hi\", \"seed\": 3}");
    dynamo_chunk_t chunk = text_chunk("ab");
    CHECK_STATUS(dynamo_stream_is_cancelled(here.stream), 0);
    CHECK_STATUS(dynamo_stream_wait(here.stream, -1), DYNAMO_OK);
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_OK);
    CHECK_STATUS(dynamo_stream_push(here.stream, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    chunk.struct_size = 8;
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_ERROR_INVALID_ARGUMENT);
    chunk.struct_size = sizeof chunk;
    chunk.index = 1;
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_ERROR_INVALID_ARGUMENT);
    chunk.index = 0;
    chunk.delta_json = "[]";
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_ERROR_INVALID_ARGUMENT);
    chunk.delta_json = NULL;
    chunk.finish_reason = "length";
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_OK);
    dynamo_usage_t usage = {sizeof usage, 5, 2, 1};
    finish(&here, "stop", &usage); /* a chunk has reported the reason already */
    answer whole = receive_all(request);
    CHECK_TEXT(whole.text, "abab");
    CHECK_TEXT(whole.finish_reason, "length");
    CHECK(whole.usage.prompt_tokens == 5 && whole.usage.cached_tokens == 1);
    answer_free(&whole);
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_finish(here.stream, NULL, NULL), DYNAMO_ERROR_INVALID_HANDLE);
    CHECK_STATUS(dynamo_stream_is_cancelled(here.stream), DYNAMO_ERROR_INVALID_HANDLE);
    close_lab(&here, runtime);
    dynamo_request_destroy(request); /* after its engine was released */
}

typedef struct work {
    dynamo_stream_t *stream;
    lab *here;
} work;

static void *push_a_thousand(void *argument) {
    work *todo = argument;
    for (uint32_t i = 0; i < 1000; ++i) {
        dynamo_chunk_t chunk = text_chunk("x");
        chunk.token_ids = &i;
        chunk.token_count = 1;
        int32_t status;
        while ((status = dynamo_stream_push(todo->stream, &chunk)) == DYNAMO_PENDING) {
            CHECK(dynamo_stream_wait(todo->stream, 0) != DYNAMO_ERROR_INVALID_HANDLE);
            CHECK_STATUS(dynamo_stream_wait(todo->stream, -1), DYNAMO_OK);
        }
        CHECK_STATUS(status, DYNAMO_OK);
    }
    finish(todo->here, NULL, NULL);
    return NULL;
}

static void an_engine_with_a_thread_for_each_request(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab', 'stream': {'capacity': 10}}");
    dynamo_request_t *request = sent(runtime, say("x"));
    work todo = {here.stream, &here};
    pthread_t thread = spawn(push_a_thousand, &todo);
    EVENTUALLY(statistic(runtime, "full") > 0);
    CHECK(statistic(runtime, "pushed") == 10);
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    CHECK(whole.token_count == 1000 && whole.largest <= 10 && get(&here.spaces) > 0);
    answer_free(&whole);
    join(thread);
    dynamo_request_destroy(request);
    close_lab(&here, runtime);
}

static void *wait_until_writable(void *argument) {
    work *todo = argument;
    add(&todo->here->spaces, 1);
    const int32_t status = dynamo_stream_wait(todo->stream, -1);
    CHECK(status == DYNAMO_ERROR_CANCELLED || status == DYNAMO_ERROR_INVALID_HANDLE);
    return NULL;
}

static void waiting_for_space_ends_with_the_request(void) {
    for (int how = 0; how < 3; ++how) {
        lab here;
        dynamo_runtime_t *runtime = open_lab(
            &here, how == 2 ? "{'engine': 'lab', 'stream': {'capacity': 1, 'when_full': 'fail'}}"
                            : "{'engine': 'lab', 'stream': {'capacity': 1}}");
        dynamo_request_t *request = sent(runtime, say("x"));
        dynamo_chunk_t chunk = text_chunk("x");
        CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_OK);
        CHECK_STATUS(dynamo_stream_wait(here.stream, 0), DYNAMO_PENDING);
        CHECK_STATUS(dynamo_stream_wait(here.stream, 5), DYNAMO_PENDING);
        CHECK_STATUS(dynamo_stream_wait(here.stream, -2), DYNAMO_ERROR_INVALID_ARGUMENT);
        work todo = {here.stream, &here};
        pthread_t thread = spawn(wait_until_writable, &todo);
        EVENTUALLY(get(&here.spaces) == 1);
        usleep(2000); /* usually it waits by now; both cases must work */
        if (how == 0) {
            CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
            CHECK(get(&here.cancels) == 1);
        } else if (how == 1) {
            finish(&here, NULL, NULL); /* as if by another thread of the engine */
        } else {
            CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_ERROR_CANCELLED);
            CHECK(dynamo_stream_is_cancelled(here.stream) == 1);
        }
        join(thread);
        if (how == 2) {
            finish(&here, NULL, NULL);
        }
        dynamo_request_destroy(request);
        close_lab(&here, runtime);
    }
}

static void an_error_with_details(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab'}");
    dynamo_request_t *request = sent(runtime, say("x"));
    dynamo_chunk_t chunk = text_chunk("part");
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_OK);
    add(&here.in_flight, -1);
    CHECK_STATUS(dynamo_stream_fail(here.stream, DYNAMO_ERROR_UNAVAILABLE, "worker lost",
                                    "{\"python\": {\"type\": \"OSError\"}}"),
                 DYNAMO_OK);
    check_answer(request, "part", DYNAMO_ERROR_UNAVAILABLE);
    request = sent(runtime, say("x"));
    add(&here.in_flight, -1);
    CHECK_STATUS(dynamo_stream_fail(here.stream, DYNAMO_OK, NULL, "no JSON"),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_ERROR_INTERNAL);
    answer_free(&whole);
    CHECK_CONTAINS(dynamo_last_error_json(), "\"layer\":\"engine\",\"engine\":\"lab\"");
    CHECK_CONTAINS(dynamo_last_error_json(), "no JSON");
    dynamo_request_destroy(request);
    close_lab(&here, runtime);
}

static void an_engine_that_refuses(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab'}");
    dynamo_request_t *request = say("x");
    here.refuse_with = DYNAMO_ERROR_OVERLOADED;
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_OVERLOADED);
    CHECK_TEXT(dynamo_last_error(), "not now");
    CHECK_CONTAINS(dynamo_last_error_json(), "\"queue\":7");
    CHECK_STATUS(dynamo_stream_finish(here.stream, NULL, NULL), DYNAMO_ERROR_INVALID_HANDLE);
    here.refuse_silently = 1;
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_OVERLOADED);
    CHECK_CONTAINS(dynamo_last_error(), "without a message");
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    CHECK(statistic(runtime, "in_flight") == 0 && statistic(runtime, "sent") == 0);
    here.push_first = 1; /* chunks pushed before a rejection are dropped */
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_OVERLOADED);
    CHECK_STATUS(dynamo_request_status(request), DYNAMO_PENDING);
    here.push_first = 0;
    here.refuse_with = 0;
    sent(runtime, request);
    finish(&here, NULL, NULL);
    check_answer(request, "", DYNAMO_END);
    RELIABILITY("an engine in C refuses a request, also after it pushed something", 3,
                "the status that it says; the request was as before, and could be sent again");
    close_lab(&here, runtime);

    memset(&here, 0, sizeof here);
    here.refuse_with = DYNAMO_ERROR_MODEL_NOT_FOUND;
    CHECK_STATUS(dynamo_engine_register("lab", &lab_engine, &here, lab_release), DYNAMO_OK);
    CHECK(dynamo_runtime_create("{\"engine\": \"lab\"}") == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_MODEL_NOT_FOUND);
    CHECK_TEXT(dynamo_last_error(), "will not start");
    CHECK_STATUS(dynamo_engine_unregister("lab"), DYNAMO_OK);
    CHECK(get(&here.releases) == 1 && get(&here.stops) == 0);
}

static const dynamo_usage_t six_tokens = {sizeof six_tokens, 1, 6, 0};

/* Three choices with interleaved chunks; choice 0 finishes first, with "length". */
static dynamo_request_t *three_choices(lab *here, dynamo_runtime_t *runtime, const char *body) {
    dynamo_request_t *request = sent(runtime, ask(body));
    static const char *const parts[] = {"a0", "b1", "a2", "c0", "d1", "e1"};
    for (int i = 0; i < 6; ++i) {
        char text[2] = {parts[i][0], '\0'};
        dynamo_chunk_t chunk = text_chunk(text);
        chunk.index = (uint32_t)(parts[i][1] - '0');
        chunk.finish_reason = i == 3 ? "length" : NULL;
        CHECK_STATUS(dynamo_stream_push(here->stream, &chunk), DYNAMO_OK);
    }
    dynamo_chunk_t chunk = text_chunk("\xe2"); /* choice 1 ends inside a code point */
    chunk.index = 1;
    CHECK_STATUS(dynamo_stream_push(here->stream, &chunk), DYNAMO_OK);
    return request;
}

static void several_choices(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab'}");
    dynamo_request_t *request = three_choices(&here, runtime, "{'prompt': 'x', 'n': 3}");
    finish(&here, "stop", &six_tokens);
    answer choices[3];
    memset(choices, 0, sizeof choices);
    dynamo_response_t *response;
    int with_usage = 0;
    while ((response = dynamo_request_recv(request)) != NULL) {
        const uint32_t index = dynamo_response_index(response);
        CHECK(index < 3);
        CHECK_TEXT(choices[index].finish_reason, ""); /* nothing follows it */
        add_response(&choices[index], response);
    }
    static const char *const texts[] = {"ac", "bde\xef\xbf\xbd", "a"};
    static const char *const reasons[] = {"length", "stop", "stop"};
    for (int i = 0; i < 3; ++i) {
        CHECK_TEXT(choices[i].text, texts[i]);
        CHECK_TEXT(choices[i].finish_reason, reasons[i]);
        with_usage += choices[i].has_usage;
        answer_free(&choices[i]);
    }
    CHECK(with_usage == 1);
    dynamo_request_destroy(request);
    close_lab(&here, runtime);
}

/* With "stream": false, one response has all choices in its JSON. */
static void several_choices_as_a_whole(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab'}");
    static const char *const bodies[] = {
        "{'prompt': 'x', 'n': 3, 'stream': false}",
        "{'messages': [{'role': 'user', 'content': 'x'}], 'n': 3, 'stream': false}",
        "{'prompt': 'x', 'n': 3, 'stream': false, 'stream_options': {'include_usage': true}}"};
    for (int i = 0; i < 3; ++i) {
        dynamo_request_t *request = three_choices(&here, runtime, bodies[i]);
        CHECK(dynamo_request_status(request) == DYNAMO_PENDING);
        finish(&here, "stop", &six_tokens);
        dynamo_response_t *response = dynamo_request_recv(request);
        CHECK(dynamo_response_index(response) == 0);
        CHECK_TEXT(dynamo_response_text(response, NULL), "ac");
        CHECK_TEXT(dynamo_response_finish_reason(response), "length");
        dynamo_usage_t usage = {sizeof usage, 0, 0, 0};
        CHECK_STATUS(dynamo_response_usage(response, &usage), DYNAMO_OK);
        CHECK(usage.completion_tokens == 6);
        const char *at = dynamo_response_json(response);
        for (int k = 0; k < 3; ++k) {
            static const char *const parts[][3] = {
                {"\"index\":0", "\"ac\"", "\"length\""},
                {"\"index\":1", "\"bde\xef\xbf\xbd\"", "\"stop\""},
                {"\"index\":2", "\"a\"", "\"stop\""},
            };
            for (int part = 0; part < 3; ++part) {
                CHECK_CONTAINS(at, parts[k][part]);
                at = strstr(at, parts[k][part]) + 1;
            }
        }
        CHECK_CONTAINS(at, "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":6");
        CHECK(strstr(at, "\"index\"") == NULL);
        dynamo_free(response);
        CHECK(dynamo_request_recv(request) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_END);
        dynamo_request_destroy(request);
    }
    close_lab(&here, runtime);
}

/* A finished choice rejects further chunks, except empty ones. */
static void pushes_to_a_finished_choice(void) {
    lab here;
    dynamo_runtime_t *runtime = open_lab(&here, "{'engine': 'lab'}");
    dynamo_request_t *request = three_choices(&here, runtime, "{'prompt': 'x', 'n': 3}");
    dynamo_chunk_t chunk = text_chunk("");
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_OK);
    chunk.finish_reason = "stop";
    CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_OK);
    static const uint32_t ids[] = {7};
    for (int i = 0; i < 3; ++i) {
        chunk = text_chunk(i == 0 ? "more" : "");
        chunk.token_ids = i == 1 ? ids : NULL;
        chunk.token_count = i == 1 ? 1 : 0;
        chunk.delta_json = i == 2 ? "{\"refusal\": \"no\"}" : NULL;
        CHECK_STATUS(dynamo_stream_push(here.stream, &chunk), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(dynamo_last_error(), "choice 0 already has its finish_reason");
    }
    finish(&here, "stop", NULL);
    dynamo_response_t *response;
    int responses_of_0 = 0;
    while ((response = dynamo_request_recv(request)) != NULL) {
        responses_of_0 += dynamo_response_index(response) == 0;
        dynamo_free(response);
    }
    CHECK(responses_of_0 == 2);
    dynamo_request_destroy(request);
    close_lab(&here, runtime);
}

static void registrations_that_are_wrong(void) {
    lab here = {{0}, {0}, {0}, {0}, {0}, {0}, {0}, NULL, 0, 0, 0, "", ""};
    static const char *const names[] = {NULL,       "",       "a b",  "a:b",
                                        "\xc3\xa9", "python", "echo", "scripted"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
        CHECK_STATUS(dynamo_engine_register(names[i], &lab_engine, &here, lab_release),
                     DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    CHECK_CONTAINS(dynamo_last_error(), "\"scripted\" is already registered");
    CHECK_STATUS(dynamo_engine_register("lab", NULL, &here, lab_release),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    static const char *const missing[] = {"start", "generate", "cancel", "stop", "struct_size"};
    for (int i = 0; i < 5; ++i) {
        dynamo_engine_t broken = lab_engine;
        broken.start = i == 0 ? NULL : broken.start;
        broken.generate = i == 1 ? NULL : broken.generate;
        broken.cancel = i == 2 ? NULL : broken.cancel;
        broken.stop = i == 3 ? NULL : broken.stop;
        broken.struct_size = i == 4 ? offsetof(dynamo_engine_t, stop) : broken.struct_size;
        CHECK_STATUS(dynamo_engine_register("lab", &broken, &here, lab_release),
                     DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(dynamo_last_error(), missing[i]);
    }
    CHECK_STATUS(dynamo_engine_unregister("lab"), DYNAMO_ERROR_ENGINE_NOT_FOUND);
    CHECK_STATUS(dynamo_engine_unregister(NULL), DYNAMO_ERROR_ENGINE_NOT_FOUND);
    CHECK(get(&here.releases) == 0);
    CHECK_STATUS(dynamo_engine_error(3, NULL, NULL), DYNAMO_ERROR_INTERNAL);
}

/* ------------------------------------------- an engine whose requests are cancelled in generate()
 */

static dynamo_request_t *being_sent;
static counter told;

static int32_t cancelling_generate(void *instance, dynamo_stream_t *stream, const char *id,
                                   const char *body) {
    (void)instance, (void)id, (void)body;
    CHECK_STATUS(dynamo_request_cancel(being_sent), DYNAMO_OK);
    CHECK(get(&told) == 0); /* not before generate() has returned */
    CHECK(dynamo_stream_is_cancelled(stream) == 1);
    return DYNAMO_OK;
}

static void cancelling_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    CHECK(add(&told, 1) == 1);
    const dynamo_chunk_t chunk = text_chunk("x");
    CHECK_STATUS(dynamo_stream_push(stream, &chunk), DYNAMO_ERROR_CANCELLED);
    CHECK_STATUS(dynamo_stream_finish(stream, NULL, NULL), DYNAMO_OK);
}

static void lab_stop_only(void *instance) {
    add(&((lab *)instance)->stops, 1);
}

static void cancelled_while_generate_runs(void) {
    lab here;
    memset(&here, 0, sizeof here);
    const dynamo_engine_t engine = {
        .struct_size = sizeof engine,
        .start = lab_start,
        .generate = cancelling_generate,
        .cancel = cancelling_cancel,
        .on_writable = NULL,
        .stop = lab_stop_only,
    };
    CHECK_STATUS(dynamo_engine_register("lab", &engine, &here, lab_release), DYNAMO_OK);
    dynamo_runtime_t *runtime = start("{'engine': 'lab'}");
    being_sent = say("x");
    sent(runtime, being_sent);
    CHECK(get(&told) == 1);
    check_answer(being_sent, "", DYNAMO_ERROR_CANCELLED);
    close_lab(&here, runtime);
}

int main(void) {
    BEGIN();
    RUN(a_request_from_its_start_to_its_end);
    RUN(an_engine_with_a_thread_for_each_request);
    RUN(waiting_for_space_ends_with_the_request);
    RUN(an_error_with_details);
    RUN(an_engine_that_refuses);
    RUN(several_choices);
    RUN(several_choices_as_a_whole);
    RUN(pushes_to_a_finished_choice);
    RUN(registrations_that_are_wrong);
    RUN(cancelled_while_generate_runs);
    return 0;
}
