/* gcc -o descriptor descriptor.c $(dynamo-llm config --cflags --libs) */
#include <dynamo_llm.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

int main(void) {
    dynamo_runtime_t *runtime = dynamo_runtime_create("{\"engine\": \"echo\"}");
    if (runtime == NULL)
        return fprintf(stderr, "%s\n", dynamo_last_error()), 1;
    dynamo_request_t *request = dynamo_request_create("{\"prompt\": \"one two three\"}");
    dynamo_request_send(runtime, request);
    /* begin */
    int loop = epoll_create1(EPOLL_CLOEXEC);
    int descriptor = dynamo_request_fd(request);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = request};
    epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event);

    int32_t status = DYNAMO_PENDING;
    while (status == DYNAMO_PENDING && epoll_wait(loop, &event, 1, -1) == 1) {
        dynamo_response_t *response;
        while ((status = dynamo_request_next(event.data.ptr, 0, &response)) == DYNAMO_OK) {
            fputs(dynamo_response_text(response, NULL), stdout);
            dynamo_free(response);
        }
    }
    epoll_ctl(loop, EPOLL_CTL_DEL, descriptor, NULL); /* before the request is destroyed */
    /* end */
    printf("\n%s\n", dynamo_status_name(status));
    close(loop);
    dynamo_request_destroy(request);
    dynamo_runtime_destroy(runtime);
    return status == DYNAMO_END ? 0 : 1;
}
