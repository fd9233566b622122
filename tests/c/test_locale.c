/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers are parsed and printed the same in every locale, even if the program changes it meanwhile. Tested with a
 * two-byte decimal point (Pashto), and with a decimal comma and different lowercase letters (Turkish). */
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "support.h"

static const char *const locales[] = {"ps_AF", "tr_TR"};
enum { locale_count = sizeof locales / sizeof locales[0] };

static char folder[] = "/tmp/dynamo-llm-locales-XXXXXX";

/* Compiles a locale from the sources of the C library, since the machine may not have it installed. */
static int set_up(const char *name) {
    char command[512];
    snprintf(command, sizeof command, "localedef -c -i %s -f UTF-8 %s/%s.UTF-8 >/dev/null 2>&1",
             name, folder, name);
    const int ignored = system(command); /* 1 if there were warnings */
    (void)ignored;
    char full[64];
    snprintf(full, sizeof full, "%s.UTF-8", name);
    if (setlocale(LC_ALL, full) == NULL) {
        fprintf(stderr, "    %s is not available\n", full);
        return 0;
    }
    return 1;
}

static void check_body(const char *text, int32_t status, const char *part) {
    char *body = json(text);
    dynamo_request_t *request = dynamo_request_create(body);
    CHECK_STATUS(dynamo_last_status(), status);
    if (status != DYNAMO_OK) {
        CHECK_CONTAINS(dynamo_last_error(), part);
        CHECK(is_utf8(dynamo_last_error()) && is_utf8(dynamo_last_error_json()));
    }
    dynamo_request_destroy(request);
    free(body);
}

static void check_numbers_read(void) {
    check_body("{'prompt': 'a', 'top_p': 1.5}", DYNAMO_ERROR_INVALID_REQUEST,
               "from 0 to 1, not 1.5");
    check_body("{'prompt': 'a', 'top_p': 0.5}", DYNAMO_OK, "");
    check_body("{'prompt': 'a', 'temperature': 2.000001}", DYNAMO_ERROR_INVALID_REQUEST,
               "not 2.000001");
    check_body("{'prompt': 'a', 'temperature': 2e-1}", DYNAMO_OK, "");
    check_body("{'prompt': 'a', 'temperature': 20e-1}", DYNAMO_OK, "");
    check_body("{'prompt': 'a', 'temperature': 21e-1}", DYNAMO_ERROR_INVALID_REQUEST, "not 2.1");
    check_body("{'prompt': 'a', 'frequency_penalty': -2.25}", DYNAMO_ERROR_INVALID_REQUEST,
               "from -2 to 2, not -2.25");
    check_body("{'prompt': 'a', 'temperature': 1e-400}", DYNAMO_OK, "");
    check_body("{'prompt': 'a', 'temperature': 1.5e400}", DYNAMO_ERROR_INVALID_JSON, "1.5e400");
    check_body("{'prompt': 'a', 'temperature': 1,5}", DYNAMO_ERROR_INVALID_JSON, "column");
    check_body("{'prompt': 'a', 'logit_bias': {'5': 100.5}}", DYNAMO_ERROR_INVALID_REQUEST,
               "100.5");
    char *config = json("{'engine': 'echo', 'options': {'tokens_per_second': -0.5}}");
    CHECK(dynamo_runtime_create(config) == NULL);
    CHECK_CONTAINS(dynamo_last_error(), "not -0.5");
    free(config);
}

static int is_number(const char *text) {
    return strcmp(text, "+Inf") == 0 ||
           (*text != '\0' && strspn(text, "0123456789.e+-") == strlen(text));
}

/* Checks each line for the Prometheus format: name{labels} number. */
static void check_metrics(dynamo_runtime_t *runtime) {
    char *text = dynamo_runtime_metrics(runtime);
    CHECK(text != NULL);
    int samples = 0;
    int fractions = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (*line == '\0' || *line == '#') {
            continue;
        }
        const char *const value = strrchr(line, ' ');
        CHECK(value != NULL && is_number(value + 1));
        fractions += strchr(value, '.') != NULL;
        char *bound = strstr(line, "le=\"");
        if (bound != NULL) {
            bound = strtok(bound + 4, "\"");
            CHECK(is_number(bound));
            fractions += strchr(bound, '.') != NULL;
        }
        ++samples;
    }
    CHECK(samples > 20 && fractions > 10);
    dynamo_free(text);
    text = dynamo_runtime_metrics(runtime);
    CHECK_CONTAINS(text, "status=\"invalid_request\""); /* no Turkish dotless i */
    dynamo_free(text);
}

static void check_answers(void) {
    dynamo_runtime_t *runtime = start(
        "{'engine': 'scripted', 'options': {'script': [{'delay_ms': 0.5}, {'text': 'a'}, "
        "{'logprobs': {'content': [{'token': 'a', 'logprob': -1.25}]}}, {'finish': 'stop'}]}}");
    dynamo_request_t *request =
        sent(runtime, ask("{'prompt': 'x', 'stream': false, 'temperature': 0.5}"));
    dynamo_response_t *response = dynamo_request_recv(request);
    CHECK(response != NULL);
    CHECK_CONTAINS(dynamo_response_json(response), "-1.25");
    dynamo_free(response);
    dynamo_request_destroy(request);
    char *refused = json("{'prompt': 'x', 'stream': true, 'colour': 1}");
    CHECK(dynamo_request_create(refused) == NULL);
    free(refused);
    dynamo_runtime_destroy(runtime);

    runtime = start("{'engine': 'scripted'}");
    request = say_script("[{'refuse': {'status': 'INVALID_REQUEST'}}]");
    CHECK_STATUS(dynamo_request_send(runtime, request), DYNAMO_ERROR_INVALID_REQUEST);
    dynamo_request_destroy(request);
    check_answer(sent(runtime, say_script("[{'text': 'a', 'repeat': 3}]")), "aaa", DYNAMO_END);
    check_metrics(runtime);
    dynamo_runtime_destroy(runtime);
}

static void no_locale_changes_a_number(void) {
    int tried = 0;
    for (int i = 0; i < locale_count; ++i) {
        if (set_up(locales[i])) {
            char before[256];
            snprintf(before, sizeof before, "%s", setlocale(LC_ALL, NULL));
            check_numbers_read();
            check_answers();
            CHECK_TEXT(setlocale(LC_ALL, NULL), before);
            ++tried;
        }
    }
    setlocale(LC_ALL, "C");
    check_numbers_read();
    check_answers();
    RELIABILITY("numbers are read and printed under locales with other decimal points", tried + 1,
                "the same everywhere");
}

static counter is_over;

static void *switch_locales(void *unused) {
    (void)unused;
    while (get(&is_over) == 0) {
        for (int i = 0; i < locale_count; ++i) {
            char name[64];
            snprintf(name, sizeof name, "%s.UTF-8", locales[i]);
            setlocale(LC_ALL, name); /* no effect if the locale is not available */
            usleep(20);
            setlocale(LC_ALL, "C");
        }
    }
    return NULL;
}

static void another_thread_switches(void) {
    const pthread_t other = spawn(switch_locales, NULL);
    const int rounds = (int)(2000 * scale());
    for (int i = 0; i < rounds; ++i) {
        check_body("{'prompt': 'a', 'top_p': 1.5}", DYNAMO_ERROR_INVALID_REQUEST, "not 1.5");
        check_body("{'prompt': 'a', 'top_p': 0.875}", DYNAMO_OK, "");
    }
    for (int i = 0; i < 5; ++i) {
        check_answers();
    }
    add(&is_over, 1);
    join(other);
    setlocale(LC_ALL, "C");
    RELIABILITY("another thread switches the locale while numbers are read", rounds,
                "the same numbers");
}

int main(void) {
    BEGIN();
    CHECK(mkdtemp(folder) != NULL);
    CHECK(setenv("LOCPATH", folder, 1) == 0);
    RUN(no_locale_changes_a_number);
    RUN(another_thread_switches);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return 0;
}
