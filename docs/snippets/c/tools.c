/* gcc -o tools tools.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <dynamo_llm/engine.h>
#include <stdio.h>
#include <string.h>

/* begin engine */
/* Stands in for a model that calls tools, so that this program runs without a download. */
static int32_t generate(void *instance, dynamo_stream_t *stream, const char *id, const char *body) {
    (void)instance, (void)id;
    dynamo_json_t *request = dynamo_json_create(body);
    const size_t last = dynamo_json_count(request, "/messages") - 1;
    char role[40], content[40], text[200];
    snprintf(role, sizeof role, "/messages/%zu/role", last);
    snprintf(content, sizeof content, "/messages/%zu/content", last);
    const char *said = dynamo_json_string(request, content, NULL);
    dynamo_chunk_t chunk = {.struct_size = sizeof chunk};
    if (strcmp(dynamo_json_string(request, role, NULL), "tool") == 0) {
        snprintf(text, sizeof text, "It is %s there.", said);
        chunk.text = text;
    } else {
        snprintf(
            text, sizeof text,
            "{\"tool_calls\": [{\"id\": \"call-%zu\", \"function\": {\"name\": \"temperature\", "
            "\"arguments\": {\"city\": \"%.4s\"}}}]}",
            last, said + strlen(said) - 5);
        chunk.text = "Let me look.";
        chunk.delta_json = text;
        chunk.finish_reason = "tool_calls";
    }
    chunk.text_length = strlen(chunk.text);
    dynamo_json_destroy(request);
    dynamo_stream_push(stream, &chunk);
    return dynamo_stream_finish(stream, NULL, NULL);
}
/* end engine */

static int32_t start(void *user, const char *config, void **instance) {
    (void)user, (void)config, (void)instance;
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop(void *instance) {
    (void)instance;
}

static const dynamo_engine_t clerk = {.struct_size = sizeof clerk,
                                      .start = start,
                                      .generate = generate,
                                      .cancel = cancel,
                                      .stop = stop};

static const char *temperature(const char *city) {
    printf("temperature(%s)\n", city);
    return strcmp(city, "Oslo") == 0 ? "4 °C" : "19 °C";
}

int main(void) {
    dynamo_engine_register("clerk", &clerk, NULL, NULL);
    /* begin */
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"clerk\"}");
    dynamo_chat_t *chat = dynamo_chat_create();
    dynamo_chat_add_tool(chat, "temperature", "Temperature outside, in °C.", NULL);
    dynamo_chat_add_parameter(chat, "temperature", "city", "string", "Name of the city", 1);
    const char *questions[] = {"How cold is it in Oslo?", "And in Rome?"};
    for (int i = 0; i < 2; ++i) {
        dynamo_chat_add_message(chat, "user", questions[i]);
        for (size_t calls = 1; calls > 0;) {
            dynamo_response_t *answer = dynamo_chat_complete(runtime, chat, 60000);
            if (dynamo_chat_add_answer(chat, answer) != DYNAMO_OK)
                return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
            puts(dynamo_response_text(answer, NULL));
            calls = dynamo_response_tool_call_count(answer);
            for (size_t k = 0; k < calls; ++k) {
                dynamo_tool_call_t call = {.struct_size = sizeof call};
                dynamo_response_tool_call(answer, k, &call);
                dynamo_json_t *arguments = dynamo_json_create(call.arguments);
                const char *city = dynamo_json_string(arguments, "/city", NULL);
                dynamo_chat_add_tool_result(chat, call.id, temperature(city ? city : "?"));
                dynamo_json_destroy(arguments);
            }
            dynamo_free(answer);
        }
    }
    /* end */
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
    return 0;
}
