/* SPDX-License-Identifier: Apache-2.0 */
/* dynamo_request_notify(): one call each time a response or the end becomes available. */
#include "support.h"

static void one_call_for_each_asking(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_request_t *request =
        sent(runtime, say_script("[{'text': 'a'}, {'text': 'b'}, {'stall': true}]"));
    counter calls = {0};
    dynamo_response_t *response;
    EVENTUALLY(statistic(runtime, "pushed") == 2);
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_OK);
    EVENTUALLY(get(&calls) == 1); /* something was available already */
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_OK);
    dynamo_free(response);
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_PENDING);
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_OK);
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_ERROR_INVALID_STATE);
    CHECK_STATUS(dynamo_request_notify(request, NULL, NULL), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK(get(&calls) == 1);
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    EVENTUALLY(get(&calls) == 2);
    /* After the end, it is called at once. */
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_OK);
    EVENTUALLY(get(&calls) == 3);
    CHECK_STATUS(dynamo_request_next(request, 0, &response), DYNAMO_ERROR_CANCELLED);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    CHECK(get(&calls) == 3);
}

static void the_last_call_comes_with_destroy(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'scripted'}");
    dynamo_request_t *request = sent(runtime, say_script("[{'stall': true}]"));
    counter calls = {0};
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_OK);
    dynamo_request_destroy(request);
    EVENTUALLY(get(&calls) == 1);
    dynamo_runtime_destroy(runtime);
}

static void only_for_requests_that_are_received_from(void) {
    dynamo_runtime_t *runtime = start_echo();
    dynamo_request_t *request = say("a");
    counter calls = {0};
    CHECK_STATUS(dynamo_request_notify(request, count_release, &calls), DYNAMO_ERROR_INVALID_STATE);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    CHECK(get(&calls) == 0);
}

/* Reads a whole answer driven only by notifications: none may get lost. */
typedef struct reader {
    dynamo_request_t *request;
    long tokens;
    counter ended;
} reader;

static void read_on(void *user) {
    reader *me = user;
    dynamo_response_t *response;
    while (1) {
        const int32_t status = dynamo_request_next(me->request, 0, &response);
        if (status == DYNAMO_PENDING) {
            CHECK_STATUS(dynamo_request_notify(me->request, read_on, me), DYNAMO_OK);
            return;
        }
        if (status != DYNAMO_OK) {
            CHECK_STATUS(status, DYNAMO_END);
            add(&me->ended, 1);
            return;
        }
        size_t count = 0;
        dynamo_response_token_ids(response, &count);
        me->tokens += (long)count;
        dynamo_free(response);
    }
}

static void none_gets_lost(void) {
    dynamo_runtime_t *runtime = start("{'engine': 'echo', 'stream': {'capacity': 2}}");
    enum { count = 200 };
    static reader readers[count];
    for (int i = 0; i < count; ++i) {
        readers[i].request = sent(runtime, say("a b c d e f g h i j k l m n o p"));
        CHECK_STATUS(dynamo_request_notify(readers[i].request, read_on, &readers[i]), DYNAMO_OK);
    }
    for (int i = 0; i < count; ++i) {
        EVENTUALLY(get(&readers[i].ended) == 1);
        CHECK(readers[i].tokens > 0 && readers[i].tokens == readers[0].tokens);
        dynamo_request_destroy(readers[i].request);
    }
    dynamo_runtime_destroy(runtime);
}

int main(void) {
    BEGIN();
    RUN(one_call_for_each_asking);
    RUN(the_last_call_comes_with_destroy);
    RUN(only_for_requests_that_are_received_from);
    RUN(none_gets_lost);
    return 0;
}
