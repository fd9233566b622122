/* SPDX-License-Identifier: Apache-2.0 */
/* Log records go only to the sink that the program sets. */
#include <string.h>
#include <unistd.h>

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
    dynamo_log_write(DYNAMO_LOG_WARNING, "a\nb", "c\nd\x1b"); /* callbacks get unescaped text */
    CHECK_TEXT(here.logger, "a\nb");
    CHECK_TEXT(here.message, "c\nd\x1b");
    dynamo_log_write(DYNAMO_LOG_ERROR, NULL, "x");
    dynamo_log_write(DYNAMO_LOG_ERROR, "test", NULL);
    CHECK(get(&here.records) == 2);
    dynamo_log_set_callback(DYNAMO_LOG_OFF, NULL, NULL, NULL);
    CHECK(get(&here.releases) == 1);
}

static void only_the_level_and_above(void) {
    for (int32_t least = DYNAMO_LOG_TRACE; least <= DYNAMO_LOG_OFF; ++least) {
        sink here = {{0}, {0}, 0, "", ""};
        CHECK_STATUS(dynamo_log_set_callback(least, on_record, &here, NULL), DYNAMO_OK);
        for (int32_t level = DYNAMO_LOG_TRACE - 1; level <= DYNAMO_LOG_OFF + 1; ++level) {
            dynamo_log_write(level, "test", "x"); /* an invalid level is dropped */
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

/* Returns what the default sink writes for one record. */
static const char *written(int32_t level, const char *logger, const char *message) {
    static char text[1024];
    FILE *const file = tmpfile();
    const int before = dup(STDERR_FILENO);
    CHECK(file != NULL && before >= 0);
    CHECK(dup2(fileno(file), STDERR_FILENO) >= 0);
    dynamo_log_write(level, logger, message);
    CHECK(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* Text from engines and servers can neither forge a log record nor control a terminal. */
static void a_record_is_a_line(void) {
    static const char *const records[][2] = {
        {"plain \t text", "plain \t text"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"a\ndynamo_llm error: forged: b", "a\\ndynamo_llm error: forged: b"},
        {"a\rb\r\nc\v\f\b\a", "a\\rb\\r\\nc\\x0b\\x0c\\x08\\x07"},
        {"\x1b[31mred\x1b]0;title\x07\x7f", "\\x1b[31mred\\x1b]0;title\\x07\\x7f"},
        {"\xc2\x85 \xc2\x9b"
         "31m",
         "\\u0085 \\u009b31m"},
        {"\xe2\x80\xa8 \xe2\x80\xa9 \xe2\x80\xae \xe2\x81\xa6 \xd8\x9c",
         "\\u2028 \\u2029 \\u202e \\u2066 \\u061c"},
        {"\x9b \xff\xfe \xed\xa0\x80 \xf0\x9f\x98",
         "\\x9b \\xff\\xfe \\xed\\xa0\\x80 \\xf0\\x9f\\x98"},
    };
    for (size_t i = 0; i < sizeof records / sizeof *records; ++i) {
        char expected[256];
        snprintf(expected, sizeof expected, "dynamo_llm error: %s: %s\n", records[i][1],
                 records[i][1]);
        CHECK_TEXT(written(DYNAMO_LOG_ERROR, records[i][0], records[i][0]), expected);
    }
    RELIABILITY(
        "a record of the log with line breaks, escape sequences, or bytes that are no UTF-8",
        (long long)(sizeof records / sizeof *records), "one line on stderr, with these escaped");
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
    /* This callback must get no record, not even one in flight to the previous callback: it would crash on NULL. */
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
    RUN(a_record_is_a_line);
    RUN(a_record_comes_as_it_was_written);
    RUN(only_the_level_and_above);
    RUN(a_level_that_is_none);
    RUN(released_once_and_never_used_after);
    return 0;
}
