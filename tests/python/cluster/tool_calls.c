/* SPDX-License-Identifier: Apache-2.0 */
/* Sends a chat with the tool "temperature" to a runtime: tool_calls CONFIG. Prints finish reason, text, reasoning, and
 * each tool call with its arguments. */
#include <dynamo_llm.h>
#include <stdio.h>

static int failed(void) {
    fprintf(stderr, "%s\n", dynamo_last_error());
    return 1;
}

int main(int count, char **words) {
    if (count != 2)
        return 2;
    dynamo_runtime_t *runtime = dynamo_runtime_create(words[1]);
    if (runtime == NULL)
        return failed();
    dynamo_chat_t *chat = dynamo_chat_create();
    dynamo_chat_add_message(chat, "user", "How cold?");
    dynamo_chat_add_tool(chat, "temperature", "Temperature outside, in °C.", NULL);
    dynamo_chat_add_parameter(chat, "temperature", "city", "string", NULL, 1);
    dynamo_response_t *answer = dynamo_chat_complete(runtime, chat, 60000);
    if (answer == NULL)
        return failed();
    printf("%s|%s|%s\n", dynamo_response_finish_reason(answer), dynamo_response_text(answer, NULL),
           dynamo_response_reasoning(answer, NULL));
    for (size_t k = 0; k < dynamo_response_tool_call_count(answer); ++k) {
        dynamo_tool_call_t call = {.struct_size = sizeof call};
        dynamo_response_tool_call(answer, k, &call);
        printf("%s(%s)\n", call.name, call.arguments);
    }
    dynamo_free(answer);
    dynamo_chat_destroy(chat);
    dynamo_runtime_destroy(runtime);
    return 0;
}
