/* SPDX-License-Identifier: Apache-2.0 */
/* Faults of the process: clock jumps, too many requests, and exhausted descriptors and memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "../c/support.h"

/* ------------------------------------------------------------------------------ the clock jumps */

static counter offset; /* error of the wall clock, in seconds */
static counter asked;  /* number of reads of the wall clock */

/* Replaces the function of the C library, also for calls from the shared library: the loader searches the program
   first. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    struct timespec reading;
    const int result = (int)syscall(SYS_clock_gettime, clock, &reading);
    if (result == 0) {
        *now = reading;
        if (clock == CLOCK_REALTIME) {
            add(&asked, 1);
            now->tv_sec += (time_t)get(&offset);
        }
    }
    return result;
}

/* Checks that the deadline ended the request, whether or not it had responses by then. */
static void check_late(dynamo_request_t *request) {
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_ERROR_DEADLINE_EXCEEDED);
    answer_free(&whole);
    dynamo_request_destroy(request);
}

static void the_clock_jumps(void) {
    static const long jumps[] = {0, 3600, -3600, 86400 * 365, -86400 * 365};
    enum { count = sizeof jumps / sizeof jumps[0] };
    dynamo_runtime_t *const stalling = start_script("[{'text': 'a'}, {'stall': true}]");
    dynamo_runtime_t *const waiting =
        start_script("[{'delay_ms': 20}, {'text': 'a'}, {'delay_ms': 20}, {'text': 'b'}]");
    for (int i = 0; i < count; ++i) {
        const long before = get(&asked);
        dynamo_request_t *const late = say("x");
        CHECK_STATUS(dynamo_request_set_deadlines(late, -1, 50), DYNAMO_OK);
        sent(stalling, late);
        dynamo_request_t *const early = say("x");
        CHECK_STATUS(dynamo_request_set_deadlines(early, 60000, 60000), DYNAMO_OK);
        sent(waiting, early);
        CHECK(get(&asked) > before); /* the creation time is wall-clock time */
        offset.value = jumps[i];     /* other threads only read it */
        /* Deadlines pass exactly when they are due, and waits take as long as they should. */
        check_answer(early, "ab", DYNAMO_END);
        check_late(late);
        dynamo_request_t *const silent = sent(stalling, say("x"));
        dynamo_response_t *response;
        CHECK_STATUS(dynamo_request_next(silent, 60000, &response), DYNAMO_OK);
        dynamo_free(response);
        CHECK_STATUS(dynamo_request_next(silent, 30, &response), DYNAMO_PENDING);
        dynamo_request_destroy(silent);
    }
    offset.value = 0;
    CHECK_STATUS(dynamo_runtime_shutdown(stalling, 60000), DYNAMO_OK);
    dynamo_runtime_destroy(stalling);
    dynamo_runtime_destroy(waiting);
    RELIABILITY("the time of day jumps by an hour or a year, either way, while requests run", count,
                "deadlines, delays and waits were as long as they should be");
}

/* -------------------------------------------------------------------- no file descriptors are left */

#if !defined(UNDER_ADDRESS_SANITIZER)
static void no_descriptors_are_left(void) {
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    dynamo_runtime_t *const runtime = start_script("[{'text': 'a'}, {'stall': true}]");
    dynamo_request_t *const watched = sent(runtime, say("x"));
    CHECK(dynamo_request_fd(watched) >= 0);
    const int next = open("/dev/null", O_RDONLY);
    CHECK(next >= 0);
    close(next);
    const struct rlimit none = {(rlim_t)next, before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(open("/dev/null", O_RDONLY) < 0 && errno == EMFILE);

    enum { count = 100 };
    for (int i = 0; i < count; ++i) {
        dynamo_request_t *const request = sent(runtime, say("x"));
        CHECK(dynamo_request_fd(request) == -1);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_SYSTEM);
        CHECK_CONTAINS(dynamo_last_error(), "Too many open files");
        /* The request can still be received without a descriptor, and requests that need none still work. */
        dynamo_response_t *response = dynamo_request_recv(request);
        CHECK(response != NULL);
        dynamo_free(response);
        CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        dynamo_request_destroy(request);
    }
    dynamo_runtime_t *const other = start_echo();
    check_answer(sent(other, say("a b")), "a b", DYNAMO_END);
    CHECK(readable(dynamo_request_fd(watched)));

    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    dynamo_request_t *const again = sent(runtime, say("x"));
    CHECK(dynamo_request_fd(again) >= 0);
    dynamo_request_destroy(again);
    dynamo_request_destroy(watched);
    dynamo_runtime_destroy(other);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("a descriptor is asked for when the process has none left", count,
                "SYSTEM with the reason; requests, and new runtimes, went on without");
}
#endif

/* ------------------------------------------------------------------------- very many requests */

static void ten_thousand_in_flight(void) {
    enum { count = 10000 };
    static dynamo_request_t *requests[count];
    dynamo_runtime_t *const runtime = start_script("[{'text': 'a'}, {'stall': true}]");
    for (int i = 0; i < count; ++i) {
        requests[i] = sent(runtime, say("x"));
    }
    EVENTUALLY(statistic(runtime, "pushed") == count);
    CHECK(statistic(runtime, "in_flight") == count);
    dynamo_request_t *const one_more = say("x");
    CHECK_STATUS(dynamo_request_set_deadlines(one_more, -1, 100), DYNAMO_OK);
    check_late(sent(runtime, one_more));
    for (int i = 0; i < count; ++i) {
        CHECK_STATUS(dynamo_request_cancel(requests[i]), DYNAMO_OK);
        check_answer(requests[i], "a", DYNAMO_ERROR_CANCELLED);
    }
    EVENTUALLY(statistic(runtime, "in_flight") == 0);
    CHECK(statistic(runtime, "cancelled") == count);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, 60000), DYNAMO_OK);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("requests in flight at once", count, "each had its text, and its own end");
}

static void a_consumer_that_never_reads(void) {
    enum { count = 100 };
    dynamo_runtime_t *const runtime =
        start("{'engine': 'echo', 'options': {'repeat': 1000}, 'stream': {'capacity': 16}}");
    dynamo_request_t *const unread = sent(runtime, say("ab "));
    EVENTUALLY(statistic(runtime, "full") > 0);
    for (int i = 0; i < count; ++i) {
        dynamo_request_t *const request = sent(runtime, say("ab "));
        answer whole = receive_all(request);
        CHECK_STATUS(whole.status, DYNAMO_END);
        CHECK(whole.length == 3000);
        answer_free(&whole);
        dynamo_request_destroy(request);
    }
    CHECK(statistic(runtime, "pushed") < 100 * 2000 + 16 + 16); /* at most the capacity is stored */
    CHECK_STATUS(dynamo_request_status(unread), DYNAMO_PENDING);
    answer whole = receive_all(unread); /* no text is lost */
    CHECK(whole.length == 3000);
    answer_free(&whole);
    dynamo_request_destroy(unread);
    dynamo_runtime_destroy(runtime);
    RELIABILITY("requests beside one whose answer nobody reads", count,
                "each had its whole answer; the one that waited lost nothing, and took 16 tokens "
                "of memory");
}

/* --------------------------------------------------------------------------- a memory limit */

#if defined(UNDER_ADDRESS_SANITIZER) || defined(UNDER_THREAD_SANITIZER)
static void a_memory_limit(void) {
    fprintf(stderr, "    sanitizers reserve more than any limit\n");
}
#else
static void within_a_limit(void) {
    dynamo_runtime_t *const runtime = start_echo();
    check_answer(sent(runtime, say("a b")), "a b", DYNAMO_END); /* starts all threads */
    const struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)512 << 20};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    enum { most = 1000, size = 4 << 20 };
    static dynamo_request_t *requests[most];
    char *const body = malloc(size);
    CHECK(body != NULL);
    memset(body, 'a', size);
    memcpy(body, "{\"prompt\": \"", 12);
    memcpy(body + size - 3, "\"}", 3);
    int made = 0;
    while (made < most && (requests[made] = dynamo_request_create(body)) != NULL) {
        ++made;
    }
    CHECK(made > 10 && made < most);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_OUT_OF_MEMORY);
    CHECK(strlen(dynamo_last_error()) > 0 && strlen(dynamo_last_error_json()) > 2);
    /* Small allocations still work, and the created requests are intact. */
    check_answer(sent(runtime, say("still here")), "still here", DYNAMO_END);
    for (int i = 0; i < made; ++i) {
        CHECK(dynamo_request_id(requests[i]) != NULL);
        dynamo_request_destroy(requests[i]);
    }
    dynamo_request_t *const again = dynamo_request_create(body);
    CHECK(again != NULL);
    dynamo_request_destroy(again);
    free(body);
    dynamo_runtime_destroy(runtime);
    exit(7);
}

static void a_memory_limit(void) {
    const pid_t child = fork(); /* forks before the library is used */
    CHECK(child >= 0);
    if (child == 0) {
        BEGIN();
        within_a_limit();
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    RELIABILITY("the process may have no more memory", 1,
                "OUT_OF_MEMORY; what is small went on, and all of it when there was memory again");
}
#endif

int main(void) {
    BEGIN();
    RUN(a_memory_limit); /* first: it forks */
    RUN(the_clock_jumps);
#if defined(UNDER_ADDRESS_SANITIZER)
    fprintf(stderr, "  no_descriptors_are_left: UndefinedBehaviorSanitizer needs some itself\n");
#else
    RUN(no_descriptors_are_left);
#endif
    RUN(ten_thousand_in_flight);
    RUN(a_consumer_that_never_reads);
    return 0;
}
