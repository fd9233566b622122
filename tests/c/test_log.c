/* SPDX-License-Identifier: Apache-2.0 */
/* Log records go where the host wants them, and nowhere else. */
#include <string.h>

#include "dynamo_llm/engine.h"
#include "support.h"

typedef struct sink {
    counter records;
    counter releases;
    int32_t level;
    char logger[64];
    char message[64];
} sink;

static void on_record(void *user, int32_t level, const char *logger, const char *message) {
    sink *to = user;
    CHECK(get(&to->releases) == 0);
    to->level = level;
    snprintf(to->logger, sizeof to->logger, "%s", logger);
    snprintf(to->message, sizeof to->message, "%s", message);
    add(&to->records, 1);
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", "from inside"); /* dropped */
}

static void on_release(void *user) {
    sink *from = user;
    add(&from->releases, 1);
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", "from the release");
}

static void a_record_comes_as_it_was_written(void) {
    sink here = {{0}, {0}, 0, "", ""};
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_INFO, on_record, &here, on_release), DYNAMO_OK);
    CHECK(dynamo_log_level() == DYNAMO_LOG_INFO);
    dynamo_log_write(DYNAMO_LOG_WARNING, "test.c", "h\xc3\xa9llo");
    CHECK(get(&here.records) == 1 && here.level == DYNAMO_LOG_WARNING);
    CHECK_TEXT(here.logger, "test.c");
    CHECK_TEXT(here.message, "h\xc3\xa9llo");
    dynamo_log_write(DYNAMO_LOG_ERROR, NULL, "x");
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", NULL);
    CHECK(get(&here.records) == 1);
    dynamo_log_set_callback(DYNAMO_LOG_OFF, NULL, NULL, NULL);
    CHECK(get(&here.releases) == 1);
}

static void only_the_level_and_above(void) {
    for (int32_t least = DYNAMO_LOG_TRACE; least <= DYNAMO_LOG_OFF; ++least) {
        sink here = {{0}, {0}, 0, "", ""};
        CHECK_STATUS(dynamo_log_set_callback(least, on_record, &here, NULL), DYNAMO_OK);
        for (int32_t level = DYNAMO_LOG_TRACE - 1; level <= DYNAMO_LOG_OFF + 1; ++level) {
            dynamo_log_write(level, "test", "x"); /* what is no level is no record */
        }
        CHECK(get(&here.records) == DYNAMO_LOG_OFF - least);
        dynamo_log_set_callback(DYNAMO_LOG_OFF, NULL, NULL, NULL);
    }
}

static void a_level_that_is_none(void) {
    sink here = {{0}, {0}, 0, "", ""};
    CHECK_STATUS(dynamo_log_set_callback(-1, on_record, &here, on_release),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_OFF + 1, on_record, &here, on_release),
                 DYNAMO_ERROR_INVALID_ARGUMENT);
    CHECK(get(&here.releases) == 0);
}

static counter stop_writing;

static void *write_records(void *unused) {
    (void)unused;
    while (get(&stop_writing) == 0) {
        dynamo_log_write(DYNAMO_LOG_ERROR, "test", "x");
    }
    return NULL;
}

static void on_record_shared(void *user, int32_t level, const char *logger, const char *message) {
    (void)level, (void)logger, (void)message;
    CHECK(get(user) == 0); /* never after the release */
}

static void released_once_and_never_used_after(void) {
    enum { count = 500 };
    static counter releases[count];
    dynamo_log_set_callback(DYNAMO_LOG_OFF, NULL, NULL, NULL);
    pthread_t writers[3];
    for (int i = 0; i < 3; ++i) {
        writers[i] = spawn(write_records, NULL);
    }
    for (int i = 0; i < count; ++i) {
        dynamo_log_set_callback(DYNAMO_LOG_TRACE, on_record_shared, &releases[i], count_release);
    }
    /* Nothing reaches this one, not even what was about to reach the last: it would crash. */
    dynamo_log_set_callback(DYNAMO_LOG_OFF, on_record_shared, NULL, NULL);
    add(&stop_writing, 1);
    for (int i = 0; i < 3; ++i) {
        join(writers[i]);
    }
    for (int i = 0; i < count; ++i) {
        CHECK(get(&releases[i]) == 1);
    }
}

int main(void) {
    BEGIN();
    CHECK(dynamo_log_level() == DYNAMO_LOG_WARNING);
    RUN(a_record_comes_as_it_was_written);
    RUN(only_the_level_and_above);
    RUN(a_level_that_is_none);
    RUN(released_once_and_never_used_after);
    return 0;
}
