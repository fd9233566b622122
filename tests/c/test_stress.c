/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads use everything at once; every request ends exactly once, and nothing leaks. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { thread_count = 64, words = 60 };

enum way { by_recv, by_polling, by_descriptor, by_callback, way_count };
enum plan { read_all, cancel_midway, destroy_midway, let_others_cancel, plan_count };

static dynamo_runtime_t *runtime;
static int requests_per_thread;
static counter done;
static counter kinds[2]; /* number of ended, number of cancelled */

/* Requests that other threads may cancel at any time; the handles may be stale by then. */
static dynamo_request_t *board[thread_count];

static unsigned draw(unsigned *state, unsigned below) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 16) % below;
}

typedef struct watch {
    counter responses;
    counter terminal_events;
    counter releases;
    size_t tokens;
    int32_t status;
    size_t midway;
    enum plan plan;
} watch;

/* Called after each response. Returns true if it destroyed the request. */
static int midway(watch *seen, dynamo_request_t *request) {
    if ((size_t)add(&seen->responses, 1) == seen->midway) {
        if (seen->plan == cancel_midway) {
            CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
        } else if (seen->plan == destroy_midway) {
            dynamo_request_destroy(request);
            return 1;
        }
    }
    return 0;
}

static void take(watch *seen, dynamo_response_t *response) {
    size_t tokens;
    CHECK(dynamo_response_text(response, NULL) != NULL);
    dynamo_response_token_ids(response, &tokens);
    seen->tokens += tokens;
    dynamo_free(response);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_OK);
}

static void on_event(void *user, dynamo_request_t *request, dynamo_response_t *response,
                     int32_t status) {
    watch *seen = user;
    if (response != NULL) {
        take(seen, response);
        midway(seen, request);
    } else {
        seen->status = status;
        add(&seen->terminal_events, 1);
    }
}

static void on_release(void *user) {
    add(&((watch *)user)->releases, 1);
}

static int32_t next(dynamo_request_t *request, enum way way, int fd, dynamo_response_t **response) {
    if (way == by_recv) {
        *response = dynamo_request_recv(request);
        return dynamo_last_status();
    }
    if (way == by_polling) {
        int32_t status;
        while ((status = dynamo_request_next(request, 1, response)) == DYNAMO_PENDING) {
        }
        return status;
    }
    struct pollfd look = {fd, POLLIN, 0};
    CHECK(poll(&look, 1, -1) == 1);
    const int32_t status = dynamo_request_next(request, 0, response);
    CHECK(status != DYNAMO_PENDING);
    return status;
}

static void receive(watch *seen, dynamo_request_t *request, enum way way) {
    const int fd = way == by_descriptor ? dynamo_request_fd(request) : -1;
    CHECK(way != by_descriptor || fd >= 0);
    dynamo_response_t *response;
    while ((seen->status = next(request, way, fd, &response)) == DYNAMO_OK) {
        take(seen, response);
        if (midway(seen, request)) {
            seen->status = DYNAMO_ERROR_CANCELLED;
            CHECK_STATUS(dynamo_request_status(request), DYNAMO_ERROR_INVALID_HANDLE);
            return;
        }
    }
    CHECK_STATUS(next(request, way, fd, &response), seen->status); /* the end is repeated */
    CHECK_STATUS(dynamo_request_status(request), seen->status);
    dynamo_request_destroy(request);
}

static void run_one(size_t place, unsigned *state) {
    watch seen;
    memset(&seen, 0, sizeof seen);
    const enum way way = (enum way)draw(state, way_count);
    seen.plan = (enum plan)draw(state, plan_count);
    seen.midway = 1 + draw(state, 3);
    dynamo_request_t *request = say("a b c d e f");
    if (draw(state, 4) == 0) {
        CHECK_STATUS(dynamo_request_set_deadlines(request, 100000, 100000), DYNAMO_OK);
    }
    if (way == by_callback) {
        CHECK_STATUS(dynamo_request_set_callback(request, on_event, &seen, on_release), DYNAMO_OK);
    }
    sent(runtime, request);
    if (seen.plan == let_others_cancel) {
        __atomic_store_n(&board[place], request, __ATOMIC_RELEASE);
    }
    if (way == by_callback) {
        EVENTUALLY(get(&seen.releases) == 1);
        const int destroyed =
            seen.plan == destroy_midway && (size_t)get(&seen.responses) >= seen.midway;
        CHECK(get(&seen.terminal_events) == !destroyed);
        seen.status = destroyed ? DYNAMO_ERROR_CANCELLED : seen.status;
        dynamo_request_destroy(request);
        CHECK_STATUS(dynamo_last_status(), destroyed ? DYNAMO_ERROR_INVALID_HANDLE : DYNAMO_OK);
    } else {
        receive(&seen, request, way);
    }
    CHECK(seen.status == DYNAMO_END || seen.status == DYNAMO_ERROR_CANCELLED);
    CHECK(seen.status != DYNAMO_END || seen.tokens == words);
    CHECK(seen.plan != read_all || seen.status == DYNAMO_END);
    add(&kinds[seen.status != DYNAMO_END], 1);
}

static void *run_many(void *argument) {
    const size_t place = (size_t)argument;
    unsigned state = (unsigned)place * 7919u + 1;
    for (int i = 0; i < requests_per_thread; ++i) {
        run_one(place, &state);
    }
    return NULL;
}

static void *cancel_others(void *unused) {
    (void)unused;
    unsigned state = 5;
    while (get(&done) == 0) {
        dynamo_request_t *request =
            __atomic_load_n(&board[draw(&state, thread_count)], __ATOMIC_ACQUIRE);
        if (request != NULL) {
            const int32_t status = dynamo_request_cancel(request);
            CHECK(status == DYNAMO_OK || status == DYNAMO_ERROR_INVALID_HANDLE);
        }
        usleep(50);
    }
    return NULL;
}

static void everything_at_once(void) {
    requests_per_thread = (int)(200 * scale()) + 1;
    runtime = start("{'engine': 'echo', 'options': {'repeat': 10}, 'stream': {'capacity': 8}}");
    pthread_t threads[thread_count];
    pthread_t canceller = spawn(cancel_others, NULL);
    for (size_t i = 0; i < thread_count; ++i) {
        threads[i] = spawn(run_many, (void *)i);
    }
    for (size_t i = 0; i < thread_count; ++i) {
        join(threads[i]);
    }
    add(&done, 1);
    join(canceller);
    CHECK_STATUS(dynamo_runtime_shutdown(runtime, -1), DYNAMO_OK);
    const long long total = (long long)thread_count * requests_per_thread;
    const long long ended = statistic(runtime, "ended");
    const long long cancelled = statistic(runtime, "cancelled");
    CHECK(statistic(runtime, "in_flight") == 0 && statistic(runtime, "sent") == total);
    CHECK(ended + cancelled == total && statistic(runtime, "failed") == 0);
    /* A request that had ended before it was destroyed midway counts as ended in the statistics. */
    CHECK(ended >= get(&kinds[0]) && ended > 0 && cancelled > 0);
    CHECK(statistic(runtime, "received") <= statistic(runtime, "pushed"));
    dynamo_runtime_destroy(runtime);
}

static void open_and_close(int rounds) {
    for (int i = 0; i < rounds; ++i) {
        dynamo_runtime_t *one = i % 2 ? start_echo() : start("{'engine': 'scripted'}");
        dynamo_request_t *request = sent(one, i % 2 ? say("a") : say_script("[{'stall': true}]"));
        CHECK(dynamo_request_fd(request) >= 0);
        if (i % 2) {
            check_answer(request, "a", DYNAMO_END);
        } else {
            dynamo_request_destroy(request);
        }
        if (i % 3 == 0) {
            CHECK_STATUS(dynamo_runtime_shutdown(one, -1), DYNAMO_OK);
        }
        dynamo_runtime_destroy(one);
    }
}

static long resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* "." and "..", this thread, the library's callback and deadline threads, and one of a sanitizer. */
enum { most_threads = 2 + 1 + 2 + 1 };

static void runtimes_leave_nothing_behind(void) {
    const int rounds = (int)(200 * scale()) + 1;
    open_and_close(rounds / 2 + 1);
    EVENTUALLY(count_of("/proc/self/task") <= most_threads);
    const long descriptors = count_of("/proc/self/fd");
    const long bytes = resident_bytes();
    open_and_close(rounds);
    EVENTUALLY(count_of("/proc/self/task") <= most_threads);
    EVENTUALLY(count_of("/proc/self/fd") <= descriptors);
    const char *sanitizers = getenv("DYNAMO_TEST_SANITIZE");
    if (sanitizers == NULL || sanitizers[0] == '\0') { /* sanitizers keep freed memory */
        CHECK(resident_bytes() - bytes < 16 << 20);
    }
}

int main(void) {
    BEGIN();
    RUN(everything_at_once);
    RUN(runtimes_leave_nothing_behind);
    return 0;
}
