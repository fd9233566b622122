/* SPDX-License-Identifier: Apache-2.0 */
/* Several models in a runtime, model descriptions from engines, metrics, and timings. */
#include "dynamo_llm/engine.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* An engine that answers with the name in its user pointer, and that has a description. */
typedef struct named {
    const char *name;
    const char *description;
    counter stops;
} named;

static int32_t named_start(void *user, const char *config, void **instance) {
    CHECK_CONTAINS(config, "\"engine\"");
    *instance = user;
    return DYNAMO_OK;
}

static int32_t named_generate(void *instance, dynamo_stream_t *stream, const char *id,
                              const char *body) {
    (void)id;
    (void)body;
    named *here = instance;
    dynamo_chunk_t chunks[2] = {{.struct_size = sizeof chunks[0]},
                                {.struct_size = sizeof chunks[0]}};
    uint32_t token = 7;
    chunks[0].text = here->name;
    chunks[0].text_length = strlen(here->name);
    chunks[1].text = "!";
    chunks[1].text_length = 1;
    chunks[1].token_ids = &token;
    chunks[1].token_count = 1;
    dynamo_push_t pushes[2] = {{stream, &chunks[0], 1}, {stream, &chunks[1], 1}};
    CHECK_STATUS(dynamo_stream_push_many(pushes, 2, sizeof pushes[0]), DYNAMO_OK);
    CHECK(pushes[0].status == DYNAMO_OK && pushes[1].status == DYNAMO_OK);
    const dynamo_usage_t usage = {sizeof usage, 5, 2, 3};
    return dynamo_stream_finish(stream, "stop", &usage);
}

static void named_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance;
    dynamo_stream_finish(stream, NULL, NULL);
}

static void named_stop(void *instance) {
    add(&((named *)instance)->stops, 1);
}

static const char *named_describe(void *instance) {
    return ((named *)instance)->description;
}

static void named_metrics(void *instance, void (*write)(void *, const char *), void *context) {
    (void)instance;
    write(context, "# TYPE named_answers gauge\n");
    write(context, "named_answers 42");
}

static const dynamo_engine_t named_engine = {
    .struct_size = sizeof named_engine,
    .start = named_start,
    .generate = named_generate,
    .cancel = named_cancel,
    .stop = named_stop,
    .describe = named_describe,
    .metrics = named_metrics,
};

static named left = {"left", "{\"context_length\": 64, \"adapters\": [\"left-poet\"]}", {0}};
static named right = {"right", NULL, {0}};
static named broken = {"broken", "[]", {0}};

static void check_text_of(dynamo_runtime_t *runtime, const char *body, const char *text) {
    check_answer(sent(runtime, ask(body)), text, DYNAMO_END);
}

#define TWO                                                                                   \
    "{'models': [{'name': 'a', 'engine': 'left'}, {'name': 'b', 'engine': 'right', 'model': " \
    "'some/path'}]}"

static void requests_choose_their_model(void) {
    dynamo_runtime_t *runtime = start(TWO);
    check_text_of(runtime, "{'prompt': 'x', 'model': 'a'}", "left!");
    check_text_of(runtime, "{'prompt': 'x', 'model': 'b'}", "right!");
    check_text_of(runtime, "{'prompt': 'x'}", "left!");
    check_text_of(runtime, "{'prompt': 'x', 'model': 'left-poet'}", "left!");
    dynamo_request_t *lost = ask("{'prompt': 'x', 'model': 'left-poem'}");
    CHECK_STATUS(dynamo_request_send(runtime, lost), DYNAMO_ERROR_MODEL_NOT_FOUND);
    CHECK_CONTAINS(dynamo_last_error(), "did you mean \"left-poet\"? Its models: a, left-poet, b");
    dynamo_request_destroy(lost);
    dynamo_request_t *request = sent(runtime, ask("{'prompt': 'x', 'model': 'b'}"));
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK_CONTAINS(dynamo_response_json(response), "\"model\":\"b\"");
    dynamo_free(response);
    dynamo_request_destroy(request);
    const long stops = get(&left.stops) + get(&right.stops);
    dynamo_runtime_destroy(runtime);
    CHECK(get(&left.stops) + get(&right.stops) == stops + 2);
}

static void a_device_is_described_or_refused(void) {
    static named choosing = {"choosing", "{\"device\": \"cuda:1\"}", {0}};
    CHECK_STATUS(dynamo_engine_register("choosing", &named_engine, &choosing, NULL), DYNAMO_OK);
    dynamo_runtime_t *runtime = start("{'engine': 'choosing', 'device': 'cuda:1'}");
    char *text = dynamo_runtime_models(runtime);
    CHECK_CONTAINS(text, "\"device\":\"cuda:1\"");
    dynamo_free(text);
    dynamo_runtime_destroy(runtime);
    CHECK(get(&choosing.stops) == 1);
    CHECK_STATUS(dynamo_engine_unregister("choosing"), DYNAMO_OK);

    const long stops = get(&left.stops);
    static const char *const refused[][2] = {
        {"{\"engine\": \"left\", \"device\": \"cuda\"}",
         "\"device\" of the configuration is \"cuda\", but the engine \"left\" has no choice"},
        {"{\"device\": \"cuda\", \"models\": [{\"name\": \"a\", \"engine\": \"left\"}]}",
         "model \"a\": \"device\" of the configuration is \"cuda\""},
        {"{\"engine\": \"left\", \"device\": \"CUDA\"}",
         "such as auto, cpu, cuda, cuda:1, or metal"},
        {"{\"engine\": \"left\", \"device\": \"cuda:\"}", "must be the name of a device"},
        {"{\"engine\": \"left\", \"device\": \"cuda:12345\"}", "must be the name of a device"},
        {"{\"engine\": \"left\", \"device\": \"auto:1\"}", "must be the name of a device"},
        {"{\"engine\": \"left\", \"device\": \"\"}", "must be the name of a device"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; ++i) {
        CHECK(dynamo_runtime_create(refused[i][0]) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_CONFIG);
        CHECK_CONTAINS(dynamo_last_error(), refused[i][1]);
    }
    CHECK(get(&left.stops) == stops + 2); /* the others were refused before the start */
    dynamo_runtime_destroy(start("{'engine': 'left', 'device': 'auto'}"));
}

static void models_are_listed(void) {
    dynamo_runtime_t *runtime = start(TWO);
    char *text = dynamo_runtime_models(runtime);
    CHECK_CONTAINS(text, "{\"object\":\"list\",\"data\":[{\"id\":\"a\",\"object\":\"model\"");
    CHECK_CONTAINS(text, "\"engine\":\"left\",\"adapters\":[\"left-poet\"],\"context_length\":64}");
    CHECK_CONTAINS(text, "\"id\":\"b\"");
    CHECK_CONTAINS(text, "\"engine\":\"right\",\"path\":\"some/path\"}");
    dynamo_free(text);
    dynamo_runtime_destroy(runtime);
    runtime = start_echo();
    text = dynamo_runtime_models(runtime);
    CHECK_CONTAINS(text, "\"id\":\"echo\"");
    CHECK_CONTAINS(text, "\"capabilities\":[\"chat\",\"completion\"]");
    dynamo_free(text);
    dynamo_runtime_destroy(runtime);
}

static void one_model_with_a_name_answers_to_it_only(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'left', 'name': 'mine'}");
    check_text_of(runtime, "{'prompt': 'x', 'model': 'mine'}", "left!");
    dynamo_request_t *request = ask("{'prompt': 'x', 'model': 'gpt'}");
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_MODEL_NOT_FOUND);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    runtime = start("{'engine': 'left'}");
    check_text_of(runtime, "{'prompt': 'x', 'model': 'gpt'}", "left!");
    dynamo_runtime_destroy(runtime);
}

static void check_rejected(const char *config, int32_t status, const char *message) {
    char *text = json(config);
    CHECK(dynamo_runtime_create(text) == NULL);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), message);
    free(text);
}

static void wrong_models_are_refused(void) {
    check_rejected("{'models': []}", DYNAMO_ERROR_INVALID_CONFIG, "needs at least one entry");
    check_rejected("{'models': [{'engine': 'echo'}]}", DYNAMO_ERROR_INVALID_CONFIG,
                   "\"models[0]\" of the configuration needs a \"name\"");
    check_rejected("{'models': ['echo']}", DYNAMO_ERROR_INVALID_CONFIG,
                   "\"models[0]\" of the configuration must be an object, not a string");
    check_rejected("{'models': [{'name': 'a', 'enginge': 'echo'}]}", DYNAMO_ERROR_INVALID_CONFIG,
                   "did you mean \"models[0].engine\"?");
    check_rejected("{'models': [{'name': 'a'}], 'engine': 'echo'}", DYNAMO_ERROR_INVALID_CONFIG,
                   "set it in each entry of \"models\" instead");
    check_rejected("{'models': [{'name': 'a'}], 'tool_call_parser': 'hermes'}",
                   DYNAMO_ERROR_INVALID_CONFIG, "set it in each entry of \"models\" instead");
    check_rejected("{'models': [{'name': 'a', 'engine': 'echo'}, {'name': 'a', 'engine': 'echo'}]}",
                   DYNAMO_ERROR_INVALID_CONFIG, "names must be unique");
    /* The first engine is stopped if the second fails to start. */
    const long stops = get(&left.stops);
    check_rejected(
        "{'models': [{'name': 'a', 'engine': 'left'}, {'name': 'b', 'engine': 'scripted', "
        "'options': {'start_error': {'status': 'MODEL_NOT_FOUND', 'message': 'gone'}}}]}",
        DYNAMO_ERROR_MODEL_NOT_FOUND, "model \"b\": gone");
    CHECK(get(&left.stops) == stops + 1);
    check_rejected("{'engine': 'broken'}", DYNAMO_ERROR_ENGINE_FAILED,
                   "the description of the engine \"broken\" is not a JSON object");
    CHECK(get(&broken.stops) == 1);
}

static void metrics_count(void) {
    dynamo_runtime_t *runtime = start(
        "{'models': [{'name': 'a', 'engine': 'left'}, {'name': 'b\\\"', 'engine': 'left'}], "
        "'limits': {'max_concurrent': 1, 'max_queued': 0}}");
    check_text_of(runtime, "{'prompt': 'x'}", "left!");
    check_text_of(runtime, "{'prompt': 'x'}", "left!");
    char *text = dynamo_runtime_metrics(runtime);
    CHECK_CONTAINS(text, "# TYPE dynamo_llm_requests_total counter\n");
    CHECK_CONTAINS(text,
                   "dynamo_llm_requests_total{model=\"a\",engine=\"left\",status=\"ok\"} 2\n");
    CHECK_CONTAINS(text,
                   "dynamo_llm_requests_total{model=\"b\\\"\",engine=\"left\",status=\"ok\"} 0\n");
    CHECK_CONTAINS(text, "dynamo_llm_prompt_tokens_total{model=\"a\",engine=\"left\"} 10\n");
    CHECK_CONTAINS(text, "dynamo_llm_cached_tokens_total{model=\"a\",engine=\"left\"} 6\n");
    CHECK_CONTAINS(text, "dynamo_llm_completion_tokens_total{model=\"a\",engine=\"left\"} 4\n");
    CHECK_CONTAINS(text,
                   "dynamo_llm_time_to_first_token_seconds_count{model=\"a\",engine=\"left\"} 2\n");
    CHECK_CONTAINS(text, "dynamo_llm_inter_token_seconds_count{model=\"a\",engine=\"left\"} 2\n");
    CHECK_CONTAINS(text, "dynamo_llm_queue_seconds_count{model=\"a\",engine=\"left\"} 2\n");
    CHECK_CONTAINS(
        text, "dynamo_llm_request_seconds_bucket{model=\"a\",engine=\"left\",le=\"+Inf\"} 2\n");
    /* The engine's own metrics appear once, although two instances run. */
    const char *own = strstr(text, "named_answers 42\n");
    CHECK(own != NULL && strstr(own + 1, "named_answers 42\n") == NULL);
    dynamo_free(text);
    dynamo_runtime_destroy(runtime);
}

static void refusals_count(void) {
    dynamo_runtime_t *runtime =
        start("{'engine': 'scripted', 'limits': {'max_concurrent': 1, 'max_queued': 0}}");
    dynamo_request_t *running = sent(runtime, say_script("[{'stall': true}]"));
    dynamo_request_t *refused = say_script("[]");
    CHECK_STATUS(dynamo_request_send(runtime, refused), DYNAMO_ERROR_OVERLOADED);
    char *text = dynamo_runtime_metrics(runtime);
    CHECK_CONTAINS(text, "status=\"overloaded\"} 1\n");
    CHECK_CONTAINS(text,
                   "dynamo_llm_requests_in_flight{model=\"scripted\",engine=\"scripted\"} 1\n");
    dynamo_free(text);
    dynamo_request_destroy(refused);
    dynamo_request_destroy(running);
    dynamo_runtime_destroy(runtime);
}

static void requests_carry_their_timing(void) {
    dynamo_runtime_t *runtime = start_script("[{'delay_ms': 5}, {'text': 'a'}, {'delay_ms': 5}]");
    dynamo_request_t *request =
        ask("{'prompt': 'x', 'nvext': {'extra_fields': ['timing']}, 'stream': false}");
    dynamo_timing_t timing = {sizeof timing, 0, 0, 0};
    CHECK_STATUS(dynamo_request_timing(request, &timing), DYNAMO_OK);
    CHECK(timing.queue_us == -1 && timing.first_token_us == -1 && timing.total_us == -1);
    sent(runtime, request);
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK_STATUS(dynamo_response_timing(response, &timing), DYNAMO_OK);
    CHECK(timing.queue_us >= 0 && timing.first_token_us >= timing.queue_us + 5000 &&
          timing.total_us >= timing.first_token_us + 5000);
    CHECK_CONTAINS(dynamo_response_json(response), "\"nvext\":{\"timing\":{\"queue_ms\":");
    dynamo_timing_t short_one = {8, 1, 1, 1};
    CHECK_STATUS(dynamo_response_timing(response, &short_one), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "set it to sizeof(dynamo_timing_t)");
    CHECK_STATUS(dynamo_response_timing(response, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    dynamo_free(response);
    dynamo_request_destroy(request);
    /* Only the last response has the usage. */
    request = sent(runtime, ask("{'prompt': 'x'}"));
    response = dynamo_request_recv(request);
    CHECK(strstr(dynamo_response_json(response), "nvext") == NULL);
    if (dynamo_response_finish_reason(response) == NULL) {
        CHECK_STATUS(dynamo_response_timing(response, &timing), DYNAMO_PENDING);
        CHECK(timing.total_us == -1);
    }
    dynamo_free(response);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
}

static void push_many_says_how_each_went(void) {
    CHECK_STATUS(dynamo_stream_push_many(NULL, 1, sizeof(dynamo_push_t)),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_stream_push_many(NULL, 0, sizeof(dynamo_push_t)), DYNAMO_OK);
    const dynamo_chunk_t chunk = {.struct_size = sizeof chunk};
    dynamo_push_t push = {NULL, &chunk, 0};
    CHECK_STATUS(dynamo_stream_push_many(&push, 1, 3), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_stream_push_many(&push, 1, sizeof push), DYNAMO_PENDING);
    CHECK_STATUS(push.status, DYNAMO_ERROR_INVALID_HANDLE);
}

int main(void) {
    BEGIN();
    CHECK_STATUS(dynamo_engine_register("left", &named_engine, &left, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_register("right", &named_engine, &right, NULL), DYNAMO_OK);
    CHECK_STATUS(dynamo_engine_register("broken", &named_engine, &broken, NULL), DYNAMO_OK);
    RUN(requests_choose_their_model);
    RUN(models_are_listed);
    RUN(a_device_is_described_or_refused);
    RUN(one_model_with_a_name_answers_to_it_only);
    RUN(wrong_models_are_refused);
    RUN(metrics_count);
    RUN(refusals_count);
    RUN(requests_carry_their_timing);
    RUN(push_many_says_how_each_went);
    return 0;
}
