/* SPDX-License-Identifier: Apache-2.0 */
/* Runtimes that are created without waiting: progress, errors, cancel, destroy, exit, fork. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "dynamo_llm/engine.h"
#include "support.h"

/* --- an engine whose start takes as long as a test wants --- */
static struct {
    counter may_end;  /* start() returns */
    counter is_deaf;  /* start() does not ask whether it was cancelled */
    counter starting; /* calls of start() that have begun */
    counter noticed;  /* calls that ended because they were cancelled */
    counter started, stopped;
} slow;

static void reset_slow(int may_end, int is_deaf) {
    memset(&slow, 0, sizeof slow);
    slow.may_end.value = may_end;
    slow.is_deaf.value = is_deaf;
}

static int32_t progress(const char *phase, uint64_t done, uint64_t total, double fraction) {
    const dynamo_progress_t report = {sizeof report, phase, done, total, fraction, NULL};
    return dynamo_engine_progress(&report);
}

static int32_t start_slow(void *user, const char *config_json, void **instance) {
    (void)user, (void)config_json;
    add(&slow.starting, 1);
    int32_t status = progress("download", 0, 0, -1);
    for (uint64_t done = 0; status == DYNAMO_OK && done <= 100; done += 50) {
        status = progress("weights", done, 100, 0);
    }
    if (status == DYNAMO_OK) {
        status = progress("warmup", 0, 0, 0.25);
    }
    while (get(&slow.may_end) == 0 && (status == DYNAMO_OK || get(&slow.is_deaf) != 0)) {
        usleep(1000);
        status = dynamo_engine_progress(NULL);
    }
    if (status != DYNAMO_OK && get(&slow.is_deaf) == 0) {
        add(&slow.noticed, 1);
        return status;
    }
    add(&slow.started, 1);
    *instance = &slow;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *id, const char *body) {
    (void)id, (void)body;
    CHECK(instance == &slow);
    return dynamo_stream_finish(stream, "stop", NULL);
}

static void ignore_cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop_slow(void *instance) {
    CHECK(instance == &slow);
    add(&slow.stopped, 1);
}

static void add_engine(const char *name, int32_t (*start)(void *, const char *, void **)) {
    const dynamo_engine_t engine = {.struct_size = sizeof engine,
                                    .start = start,
                                    .generate = generate,
                                    .cancel = ignore_cancel,
                                    .stop = stop_slow};
    CHECK_STATUS(dynamo_engine_register(name, &engine, NULL, NULL), DYNAMO_OK);
}

/* --- what a callback has seen --- */
typedef struct seen {
    pthread_mutex_t mutex;
    char phases[32][32];
    int count;
    dynamo_progress_t last; /* without its texts */
    char model[32];
    counter ends, releases;
    int32_t status;
    dynamo_runtime_t *runtime;
    char *error, *error_json;
    dynamo_creation_t *creation;
    int destroys_at; /* the callback destroys the creation with this event, counted from 1 */
    int cancels_at;
    int events;
} seen;

static seen *new_seen(void) {
    seen *me = calloc(1, sizeof *me);
    CHECK(me != NULL && pthread_mutex_init(&me->mutex, NULL) == 0);
    return me;
}

static void on_event(void *user, const dynamo_creation_event_t *event) {
    seen *me = user;
    CHECK(event->struct_size == sizeof *event);
    CHECK(get(&me->ends) == 0 && get(&me->releases) == 0);
    pthread_mutex_lock(&me->mutex);
    const int number = ++me->events;
    dynamo_creation_t *const creation = me->creation;
    if (event->status == DYNAMO_PENDING) {
        CHECK(event->runtime == NULL && event->error == NULL && event->error_json == NULL);
        CHECK(event->progress->struct_size == sizeof *event->progress && me->count < 32);
        snprintf(me->phases[me->count++], 32, "%s", event->progress->phase);
        snprintf(me->model, sizeof me->model, "%s", event->progress->model);
        me->last = *event->progress;
    } else {
        CHECK(event->progress == NULL);
        CHECK((event->status == DYNAMO_OK) == (event->runtime != NULL));
        CHECK((event->status < 0) == (event->error != NULL && event->error_json != NULL));
        me->status = event->status;
        me->runtime = event->runtime;
        if (event->error != NULL) {
            me->error = strdup(event->error);
            me->error_json = strdup(event->error_json);
        }
        add(&me->ends, 1);
    }
    pthread_mutex_unlock(&me->mutex);
    if (number == me->destroys_at) {
        dynamo_creation_destroy(creation);
    }
    if (number == me->cancels_at) {
        CHECK_STATUS(dynamo_creation_cancel(creation), DYNAMO_OK);
    }
}

static void on_release(void *user) {
    add(&((seen *)user)->releases, 1);
}

static seen *create(const char *config, int destroys_at, int cancels_at) {
    seen *me = new_seen();
    me->destroys_at = destroys_at;
    me->cancels_at = cancels_at;
    char *text = json(config);
    pthread_mutex_lock(&me->mutex); /* the callback waits until it knows the creation */
    me->creation = dynamo_runtime_create_async(text, on_event, me, on_release);
    CHECK(me->creation != NULL);
    pthread_mutex_unlock(&me->mutex);
    free(text);
    return me;
}

/* Waits for the final event, and checks that it was the only one. */
static void check_end(seen *me, int32_t status) {
    EVENTUALLY(get(&me->releases) > 0);
    usleep(2000);
    CHECK(get(&me->ends) == 1 && get(&me->releases) == 1);
    CHECK_STATUS(me->status, status);
}

static void forget(seen *me) {
    dynamo_creation_destroy(me->creation);
    free(me->error);
    free(me->error_json);
    pthread_mutex_destroy(&me->mutex);
    free(me);
}

/* --- tests --- */
/* Before the others, for the child must not know the library yet. */
static void exit_while_an_engine_starts(void) {
    const pid_t child = fork();
    if (child == 0) {
        reset_slow(0, 1);
        add_engine("slow", start_slow);
        create("{'engine': 'slow'}", 0, 0);
        EVENTUALLY(get(&slow.starting) == 1);
        exit(7);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void a_runtime_comes_with_the_final_event(void) {
    seen *me = create("{'engine': 'echo'}", 0, 0);
    check_end(me, DYNAMO_OK);
    CHECK(me->count == 1);
    CHECK_TEXT(me->phases[0], "engine");
    CHECK_TEXT(me->model, "");
    CHECK(me->last.bytes_total == 0 && me->last.fraction == -1);
    CHECK_STATUS(dynamo_creation_cancel(me->creation), DYNAMO_OK); /* has no effect */
    check_answer(sent(me->runtime, say("a b")), "a b", DYNAMO_END);
    dynamo_creation_destroy(me->creation);
    CHECK_STATUS(dynamo_creation_cancel(me->creation), DYNAMO_ERROR_INVALID_HANDLE);
    check_answer(sent(me->runtime, say("c")), "c", DYNAMO_END); /* it has a life of its own */
    dynamo_runtime_destroy(me->runtime);
    me->creation = NULL;
    forget(me);
}

static void mistakes_of_the_configuration_are_reported_at_once(void) {
    seen *me = new_seen();
    const char *const wrong[] = {"{", "{\"engin\": \"echo\"}", NULL, "[]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        CHECK(dynamo_runtime_create(wrong[i]) == NULL);
        const int32_t status = dynamo_last_status();
        char *const message = strdup(dynamo_last_error());
        CHECK(dynamo_runtime_create_async(wrong[i], on_event, me, on_release) == NULL);
        CHECK_STATUS(dynamo_last_status(), status);
        CHECK_TEXT(dynamo_last_error(), message);
        free(message);
    }
    CHECK(dynamo_runtime_create_async("{}", NULL, me, on_release) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "the callback is NULL");
    CHECK_STATUS(dynamo_creation_cancel(NULL), DYNAMO_ERROR_INVALID_ARGUMENT); /* the same again */
    CHECK_CONTAINS(dynamo_last_error(), "the creation is NULL, because creating it failed earlier");
    CHECK(me->events == 0 && get(&me->releases) == 0);
    forget(me);
}

static void other_errors_come_with_the_final_event(void) {
    const char *const wrong[] = {"{'engine': 'ecko'}",
                                 "{'engine': 'scripted', 'options': {'start_error': {'status': "
                                 "'MODEL_NOT_FOUND', 'message': 'none'}}}",
                                 "{'engine': 'echo', 'options': {'no_such_key': 1}}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        char *const text = json(wrong[i]);
        CHECK(dynamo_runtime_create(text) == NULL);
        const int32_t status = dynamo_last_status();
        char *const message = strdup(dynamo_last_error());
        char *const details = strdup(dynamo_last_error_json());
        seen *me = create(wrong[i], 0, 0);
        check_end(me, status);
        CHECK_TEXT(me->error, message);
        CHECK_TEXT(me->error_json, details);
        forget(me);
        free(text);
        free(message);
        free(details);
    }
}

static void an_engine_reports_its_progress(void) {
    reset_slow(0, 0);
    seen *me = create("{'models': [{'name': 'first', 'engine': 'slow'}]}", 0, 0);
    EVENTUALLY(get(&slow.starting) == 1);
    pthread_mutex_lock(&me->mutex);
    while (me->count == 0 || strcmp(me->phases[me->count - 1], "warmup") != 0) {
        pthread_mutex_unlock(&me->mutex);
        usleep(1000);
        pthread_mutex_lock(&me->mutex);
    }
    CHECK(me->last.fraction == 0.25 && me->last.bytes_done == 0 && me->last.bytes_total == 0);
    CHECK_TEXT(me->model, "first");
    pthread_mutex_unlock(&me->mutex);
    CHECK(get(&me->ends) == 0);
    add(&slow.may_end, 1);
    check_end(me, DYNAMO_OK);
    /* In order; one phase may have been reported several times, and each at least once. */
    const char *const phases[] = {"engine", "download", "weights", "warmup"};
    int at = 0;
    for (int i = 0; i < me->count; ++i) {
        if (strcmp(me->phases[i], phases[at]) != 0) {
            CHECK_TEXT(me->phases[i], phases[++at]);
        }
    }
    CHECK(at == 3);
    check_answer(sent(me->runtime, say("a")), "", DYNAMO_END);
    dynamo_runtime_destroy(me->runtime);
    CHECK(get(&slow.stopped) == 1);
    forget(me);
}

static void a_cancel_ends_it_at_once(void) {
    for (int is_deaf = 0; is_deaf < 2; ++is_deaf) {
        reset_slow(0, is_deaf);
        seen *me = create("{'engine': 'slow'}", 0, 0);
        EVENTUALLY(get(&slow.starting) == 1);
        CHECK_STATUS(dynamo_creation_cancel(me->creation), DYNAMO_OK);
        CHECK_STATUS(dynamo_creation_cancel(me->creation), DYNAMO_OK);
        check_end(me, DYNAMO_ERROR_CANCELLED); /* although the engine does not return */
        CHECK_CONTAINS(me->error, "the creation of the runtime was cancelled");
        CHECK_CONTAINS(me->error_json, "DYNAMO_ERROR_CANCELLED");
        if (is_deaf) {
            CHECK(get(&slow.started) == 0);
            add(&slow.may_end, 1);
            EVENTUALLY(get(&slow.stopped) == 1); /* what it has loaded is freed */
        } else {
            EVENTUALLY(get(&slow.noticed) == 1);
        }
        CHECK(get(&slow.started) == get(&slow.stopped));
        forget(me);
    }
}

static void nothing_follows_a_destroy(void) {
    for (int is_deaf = 0; is_deaf < 2; ++is_deaf) {
        reset_slow(0, is_deaf);
        seen *me = create("{'engine': 'slow'}", 0, 0);
        EVENTUALLY(get(&slow.starting) == 1);
        dynamo_creation_destroy(me->creation);
        EVENTUALLY(get(&me->releases) == 1);
        add(&slow.may_end, is_deaf);
        EVENTUALLY(get(is_deaf ? &slow.stopped : &slow.noticed) == 1);
        usleep(2000);
        CHECK(get(&me->ends) == 0 && get(&me->releases) == 1);
        me->creation = NULL;
        forget(me);
    }
}

static void a_callback_may_cancel_and_destroy(void) {
    reset_slow(0, 0);
    seen *me = create("{'engine': 'slow'}", 0, 1);
    check_end(me, DYNAMO_ERROR_CANCELLED);
    forget(me);

    me = create("{'engine': 'slow'}", 1, 0);
    EVENTUALLY(get(&me->releases) == 1);
    CHECK(me->events == 1 && get(&me->ends) == 0);
    me->creation = NULL;
    forget(me);

    for (int round = 0; round < 20; ++round) { /* in the final event, and the runtime stays */
        me = create("{'engine': 'echo'}", 2, 0);
        check_end(me, DYNAMO_OK);
        check_answer(sent(me->runtime, say("a")), "a", DYNAMO_END);
        dynamo_runtime_destroy(me->runtime);
        me->creation = NULL;
        forget(me);
    }
    EVENTUALLY(get(&slow.noticed) == get(&slow.starting));
}

static void *wait_for_the_end(void *argument) {
    seen *me = argument;
    CHECK_STATUS(dynamo_creation_wait(me->creation, -1), DYNAMO_OK);
    CHECK(get(&me->releases) == 1);
    return NULL;
}

static void threads_wait_for_the_end(void) {
    reset_slow(0, 0);
    seen *me = create("{'engine': 'slow'}", 0, 0);
    CHECK_STATUS(dynamo_creation_wait(me->creation, 0), DYNAMO_PENDING);
    CHECK_STATUS(dynamo_creation_wait(me->creation, 5), DYNAMO_PENDING);
    CHECK_STATUS(dynamo_creation_wait(me->creation, -2), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "timeout_ms must be -1");
    const pthread_t first = spawn(wait_for_the_end, me);
    const pthread_t second = spawn(wait_for_the_end, me);
    EVENTUALLY(get(&slow.starting) == 1);
    add(&slow.may_end, 1);
    join(first);
    join(second);
    CHECK(get(&me->ends) == 1 && me->status == DYNAMO_OK);
    CHECK_STATUS(dynamo_creation_wait(me->creation, 0), DYNAMO_OK);
    dynamo_runtime_destroy(me->runtime);
    forget(me);

    me = create("{'engine': 'echo', 'options': {'no_such_key': 1}}", 0, 0);
    wait_for_the_end(me);
    CHECK(get(&me->ends) == 1);
    CHECK_STATUS(me->status, DYNAMO_ERROR_INVALID_CONFIG);
    forget(me);
}

static void *wait_for_any_end(void *argument) {
    seen *me = argument;
    const int32_t status = dynamo_creation_wait(me->creation, -1);
    CHECK(status == DYNAMO_OK || status == DYNAMO_ERROR_INVALID_HANDLE); /* it may come too late */
    return NULL;
}

static void a_destroy_ends_the_wait(void) {
    reset_slow(0, 0);
    seen *me = create("{'engine': 'slow'}", 0, 0);
    EVENTUALLY(get(&slow.starting) == 1);
    const pthread_t thread = spawn(wait_for_any_end, me);
    usleep(2000);
    dynamo_creation_destroy(me->creation);
    join(thread);
    EVENTUALLY(get(&me->releases) == 1);
    CHECK(get(&me->ends) == 0);
    EVENTUALLY(get(&slow.noticed) == 1);
    me->creation = NULL;
    forget(me);
}

static void *cancel_soon(void *argument) {
    seen *me = argument;
    dynamo_creation_cancel(me->creation);
    return NULL;
}

static void either_the_runtime_or_the_cancel(void) {
    const int rounds = (int)(200 * scale());
    int cancelled = 0;
    for (int round = 0; round < rounds; ++round) {
        reset_slow(1, 0);
        seen *me = create("{'engine': 'slow'}", 0, 0);
        usleep((useconds_t)(round % 10) * 40);
        const pthread_t thread = spawn(cancel_soon, me);
        EVENTUALLY(get(&me->releases) > 0);
        join(thread);
        CHECK(get(&me->ends) == 1);
        CHECK(me->status == DYNAMO_OK || me->status == DYNAMO_ERROR_CANCELLED);
        cancelled += me->status != DYNAMO_OK;
        dynamo_runtime_destroy(me->runtime);
        EVENTUALLY(get(&slow.started) == get(&slow.stopped) &&
                   get(&slow.started) + get(&slow.noticed) == get(&slow.starting));
        forget(me);
    }
    fprintf(stderr, "    %d of %d were cancelled in time\n", cancelled, rounds);
    RELIABILITY("a creation is cancelled at a random moment", rounds,
                "exactly one final event each, and no engine is left");
}

static void many_at_once(void) {
    enum { count = 20 };
    seen *all[count];
    for (int i = 0; i < count; ++i) {
        all[i] = create("{'engine': 'echo', 'limits': {'max_concurrent': 1}}", 0, 0);
    }
    for (int i = 0; i < count; ++i) {
        check_end(all[i], DYNAMO_OK);
        dynamo_runtime_destroy(all[i]->runtime);
        forget(all[i]);
    }
}

static counter stuck;

static int32_t start_stuck(void *user, const char *config_json, void **instance) {
    (void)user, (void)config_json, (void)instance;
    add(&stuck, 1);
    int32_t status = DYNAMO_OK;
    while (status == DYNAMO_OK) {
        usleep(1000);
        status = dynamo_engine_progress(NULL);
    }
    return status;
}

/* The models before the one that is being started are stopped, and those after it are not started. */
static void a_cancel_stops_the_models_before(void) {
    reset_slow(1, 0);
    add_engine("stuck", start_stuck);
    const char *const models =
        "{'models': [{'name': 'a', 'engine': 'slow'}, {'name': 'b', 'engine': 'stuck'}, "
        "{'name': 'c', 'engine': 'slow'}]}";
    seen *me = create(models, 0, 0);
    EVENTUALLY(get(&stuck) == 1);
    CHECK(get(&slow.started) == 1 && get(&slow.stopped) == 0);
    CHECK_STATUS(dynamo_creation_cancel(me->creation), DYNAMO_OK);
    check_end(me, DYNAMO_ERROR_CANCELLED);
    EVENTUALLY(get(&slow.stopped) == 1);
    CHECK(get(&slow.starting) == 1);
    forget(me);
}

static void end_the_thread(void) {
    pthread_exit(NULL);
}

static int32_t start_and_exit(void *user, const char *config_json, void **instance) {
    (void)user, (void)config_json, (void)instance;
    end_the_thread();
    return DYNAMO_OK;
}

static void an_engine_ends_the_thread(void) {
    add_engine("exits", start_and_exit);
    seen *me = create("{'engine': 'exits'}", 0, 0);
    check_end(me, DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_CONTAINS(me->error, "ended the thread");
    forget(me);
}

/* --- misuse of dynamo_engine_progress() --- */
static void *report_elsewhere(void *unused) {
    (void)unused;
    CHECK_STATUS(progress("weights", 0, 0, -1), DYNAMO_ERROR_INVALID_STATE);
    return NULL;
}

static int32_t start_wrong(void *user, const char *config_json, void **instance) {
    (void)user, (void)config_json;
    CHECK_STATUS(progress(NULL, 0, 0, -1), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "progress->phase is NULL or empty");
    CHECK_STATUS(progress("", 0, 0, -1), DYNAMO_ERROR_INVALID_ARGUMENT);
    char longest[300];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    CHECK_STATUS(progress(longest, 0, 0, -1), DYNAMO_ERROR_INVALID_ARGUMENT);
    for (int i = 0; i < 3; ++i) {
        const double wrong[] = {-0.5, 1.5, strtod("nan", NULL)};
        CHECK_STATUS(progress("x", 0, 0, wrong[i]), DYNAMO_ERROR_INVALID_ARGUMENT);
        CHECK_CONTAINS(dynamo_last_error(), "from 0 to 1, or -1");
    }
    const dynamo_progress_t small = {8, "x", 0, 0, -1, NULL};
    CHECK_STATUS(dynamo_engine_progress(&small), DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_CONTAINS(dynamo_last_error(), "sizeof(dynamo_progress_t)");
    join(spawn(report_elsewhere, NULL));
    CHECK_STATUS(progress("more than all", 200, 100, 7), DYNAMO_OK);
    *instance = &slow;
    return DYNAMO_OK;
}

static void wrong_reports_are_refused(void) {
    report_elsewhere(NULL);
    CHECK_CONTAINS(dynamo_last_error(), "outside of an engine's start function");
    add_engine("wrong", start_wrong);
    reset_slow(1, 0);
    dynamo_runtime_destroy(start("{'engine': 'wrong'}")); /* without anybody who listens */
    seen *me = create("{'engine': 'wrong'}", 0, 0);
    check_end(me, DYNAMO_OK);
    CHECK_TEXT(me->phases[me->count - 1], "more than all");
    CHECK(me->last.fraction == 1 && me->last.bytes_done == 200);
    dynamo_runtime_destroy(me->runtime);
    forget(me);
}

static void a_forked_child_is_refused(void) {
    reset_slow(0, 0);
    seen *me = create("{'engine': 'slow'}", 0, 0);
    EVENTUALLY(get(&slow.starting) == 1);
    const pid_t child = fork();
    if (child == 0) {
        seen *mine = new_seen();
        CHECK(dynamo_runtime_create_async("{}", on_event, mine, on_release) == NULL);
        CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_FORKED);
        CHECK_STATUS(dynamo_creation_cancel(me->creation), DYNAMO_ERROR_FORKED);
        dynamo_creation_destroy(me->creation);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    add(&slow.may_end, 1); /* and the parent goes on */
    check_end(me, DYNAMO_OK);
    dynamo_runtime_destroy(me->runtime);
    forget(me);
}

int main(void) {
    BEGIN();
    RUN(exit_while_an_engine_starts);
    add_engine("slow", start_slow);
    RUN(a_runtime_comes_with_the_final_event);
    RUN(mistakes_of_the_configuration_are_reported_at_once);
    RUN(other_errors_come_with_the_final_event);
    RUN(an_engine_reports_its_progress);
    RUN(a_cancel_ends_it_at_once);
    RUN(nothing_follows_a_destroy);
    RUN(a_callback_may_cancel_and_destroy);
    RUN(threads_wait_for_the_end);
    RUN(a_destroy_ends_the_wait);
    RUN(either_the_runtime_or_the_cancel);
    RUN(many_at_once);
    RUN(a_cancel_stops_the_models_before);
    RUN(an_engine_ends_the_thread);
    RUN(wrong_reports_are_refused);
    RUN(a_forked_child_is_refused);
    return 0;
}
