/* gcc -o respond respond.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>

static int fail(void) {
    fprintf(stderr, "%s: %s\n", dynamo_status_name(dynamo_last_status()), dynamo_last_error());
    return 1;
}

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{}");
    if (runtime == NULL)
        return fail();
    /* begin */
    dynamo_response_t *answer = dynamo_runtime_complete(
        runtime,
        "{\"task\": \"respond\", \"input\": \"What is a KV cache?\", \"max_output_tokens\": 5}",
        -1);
    if (answer == NULL)
        return fail();
    printf("%s\n", dynamo_response_text(answer, NULL));
    dynamo_json_t *object = dynamo_json_create(dynamo_response_json(answer));
    printf("%s\n", dynamo_json_string(object, "/incomplete_details/reason", NULL));
    /* end */
    dynamo_json_destroy(object);
    dynamo_free(answer);
    dynamo_runtime_destroy(runtime);
    return 0;
}
