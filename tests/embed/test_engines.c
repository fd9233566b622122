/* SPDX-License-Identifier: Apache-2.0 */
/* Working and faulty engines in Python, used from C. */
#include <stdlib.h>
#include <string.h>

#include "embed.h"

/* ------------------------------------------------------------------------------- working engines */

static void check_echo(const char *engine, const char *reason, uint64_t cached) {
    dynamo_runtime_t *runtime = start_engine(engine, "'options': {'repeat': 3}");
    dynamo_request_t *request = sent(runtime, say("ein zwölf drei"));
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, DYNAMO_END);
    CHECK_TEXT(whole.text, "ein zwölf drei ein zwölf drei ein zwölf drei ");
    CHECK_TEXT(whole.finish_reason, reason);
    CHECK(whole.token_count == 9 && whole.has_usage);
    CHECK(whole.usage.prompt_tokens == 3 && whole.usage.completion_tokens == 9);
    CHECK(whole.usage.cached_tokens == cached);
    answer_free(&whole);
    dynamo_request_destroy(request);
    finish(runtime);
}

static void asynchronous_generator(void) {
    check_echo("echoes:Async", "length", 0);
}
static void generator_in_a_thread(void) {
    check_echo("echoes:Threaded", "stop", 1);
}

static void anything_that_can_be_iterated(void) {
    dynamo_runtime_t *runtime = start_engine("echoes:Plain", "");
    check_says(runtime, "a b", "a b ");
    finish(runtime);
}

static void two_engines_at_once(void) {
    dynamo_runtime_t *first = start_engine("echoes:Async", "");
    dynamo_runtime_t *second = start_engine("echoes:Threaded", "'options': {'repeat': 2}");
    dynamo_request_t *requests[60];
    for (int i = 0; i < 60; ++i) {
        requests[i] = sent(i % 2 == 0 ? first : second, say("x y"));
    }
    for (int i = 0; i < 60; ++i) {
        check_answer(requests[i], i % 2 == 0 ? "x y " : "x y x y ", DYNAMO_END);
    }
    finish(first);
    finish(second);
}

/* --------------------------------------------------------------------------------- faulty engines */

static const struct failure {
    const char *how;
    int32_t status;
    const char *type;
    const char *message;
} failures[] = {
    {"value", DYNAMO_ERROR_ENGINE_FAILED, "ValueError", "ValueError: a bad value: é"},
    {"surrogate", DYNAMO_ERROR_ENGINE_FAILED, "ValueError", "not UTF-8: \\udc80"},
    {"unprintable", DYNAMO_ERROR_ENGINE_FAILED, "failing.Unprintable", "failing.Unprintable"},
    {"context", DYNAMO_ERROR_CONTEXT_LENGTH, "dynamo_llm.errors.ContextLengthError", "by 7 tokens"},
    {"memory", DYNAMO_ERROR_OUT_OF_MEMORY, "MemoryError", "no memory"},
    {"exit", DYNAMO_ERROR_ENGINE_FAILED, "SystemExit", "leaving"},
    {"interrupt", DYNAMO_ERROR_ENGINE_FAILED, "KeyboardInterrupt", "KeyboardInterrupt"},
    {"cancelled", DYNAMO_ERROR_ENGINE_FAILED, "asyncio.exceptions.CancelledError",
     "the engine's own"},
};
static const size_t failure_count = sizeof failures / sizeof failures[0];

static void check_contains_quoted(const char *text, const char *part) {
    char quoted[128];
    snprintf(quoted, sizeof quoted, "\"%s\"", part);
    CHECK_CONTAINS(text, quoted);
}

static void check_failure(dynamo_runtime_t *runtime, const struct failure *failure,
                          int after_text) {
    char prompt[64];
    snprintf(prompt, sizeof prompt, "%s%s", after_text ? "after " : "", failure->how);
    dynamo_request_t *request = sent(runtime, say(prompt));
    answer whole = receive_all(request);
    CHECK_STATUS(whole.status, failure->status);
    CHECK_TEXT(whole.text, after_text ? "first" : "");
    CHECK_TEXT(whole.finish_reason, "");
    CHECK_STATUS(dynamo_request_status(request), failure->status);
    CHECK_CONTAINS(dynamo_request_error(request), failure->message);
    const char *error = dynamo_request_error_json(request);
    check_contains_quoted(error, failure->type);
    check_contains_quoted(error, dynamo_request_id(request));
    CHECK_CONTAINS(error, "\"failing:");
    CHECK_CONTAINS(error, "in generate");
    CHECK_CONTAINS(error, "failing.py");
    CHECK_CONTAINS(error, "\"layer\"");
    answer_free(&whole);
    dynamo_request_destroy(request);
}

static void check_failures(const char *engine) {
    dynamo_runtime_t *runtime = start_engine(engine, "");
    dynamo_runtime_t *other = start_engine("stalling:Async", "");
    dynamo_request_t *bystander = sent(other, say("still here"));
    for (size_t i = 0; i < failure_count; ++i) {
        check_failure(runtime, &failures[i], 0);
        check_failure(runtime, &failures[i], 1);
        check_says(runtime, "nothing", "ok");
    }
    CHECK_STATUS(dynamo_request_status(bystander), DYNAMO_PENDING);
    check_says(other, "go", "go");
    dynamo_request_destroy(bystander);
    finish(runtime);
    finish(other);
}

static void failing_on_the_loop(void) {
    check_failures("failing:Async");
    RELIABILITY(
        "an engine raises, before and after its first chunk: exceptions, MemoryError, SystemExit, "
        "KeyboardInterrupt, and one without a text",
        2 * (long long)failure_count,
        "the status that fits, the traceback, what came before; other requests went on");
}
static void failing_in_a_thread(void) {
    check_failures("failing:Threaded");
    RELIABILITY("an engine raises in a thread of its request, in the same ways",
                2 * (long long)failure_count,
                "the status that fits, the traceback, what came before; other requests went on");
}

static void generate_without_a_generator(void) {
    dynamo_runtime_t *runtime = start_engine("failing:InGenerate", "");
    check_failure(runtime, &failures[0], 0);
    dynamo_request_t *request = sent(runtime, say("nothing"));
    CHECK(dynamo_request_recv(request) == NULL);
    CHECK_STATUS(dynamo_last_status(), DYNAMO_ERROR_ENGINE_FAILED);
    CHECK_CONTAINS(dynamo_last_error(), "must return a generator, not int");
    dynamo_request_destroy(request);
    finish(runtime);
    RELIABILITY("generate() raises, or returns something that is not a generator", 2,
                "ENGINE_FAILED, which says what it must be");
}

static void check_no_start(const char *engine, const char *more, int32_t status,
                           const char *message) {
    char *config = engine_config(engine, more);
    CHECK(dynamo_runtime_create(config) == NULL);
    free(config);
    CHECK_STATUS(dynamo_last_status(), status);
    CHECK_CONTAINS(dynamo_last_error(), message);
    check_contains_quoted(dynamo_last_error_json(), engine);
}

static void engines_that_do_not_start(void) {
    for (size_t i = 0; i < failure_count; ++i) {
        char options[64];
        snprintf(options, sizeof options, "'options': {'how': '%s'}", failures[i].how);
        check_no_start("failing:InStart", options, failures[i].status, failures[i].message);
        check_contains_quoted(dynamo_last_error_json(), failures[i].type);
        CHECK_CONTAINS(dynamo_last_error_json(), "in start");
        check_no_start("failing:InInit", options, failures[i].status, failures[i].message);
    }
    check_no_start("no_such_module:Class", "", DYNAMO_ERROR_ENGINE_UNAVAILABLE, "no_such_module");
    check_no_start("failing:NoSuchClass", "", DYNAMO_ERROR_ENGINE_NOT_FOUND, "NoSuchClass");
    check_no_start("mistralr", "", DYNAMO_ERROR_ENGINE_NOT_FOUND, "did you mean \"mistralrs\"?");
    CHECK_CONTAINS(dynamo_last_error(), "mistralrs, openai, scripted");
    RELIABILITY("an engine cannot be imported, made or started", (long long)failure_count,
                "an error that names it; later runtimes worked");
}

static const struct garbage {
    const char *how;
    const char *type; /* NULL: no error is expected */
    const char *text;
} garbages[] = {
    {"number", "TypeError", "good"},
    {"none", "TypeError", "good"},
    {"list", "TypeError", "good"},
    {"text", "TypeError", "good"},
    {"surrogate", NULL,
     "gooda\xEF\xBF\xBD"
     "b"},
    {"ids", "TypeError", "good"},
    {"id", "OverflowError", "good"},
    {"big_id", "ValueError", "good"},
    {"word_id", "TypeError", "good"},
    {"index", "ValueError", "good"},
    {"negative_index", "", "good"},
    {"reason", "", "good"},
    {"delta", "ValueError", "good"},
    {"delta_object", "TypeError", "good"},
    {"logprobs", "ValueError", "good"},
    {"usage", "", "good"},
    {"usage_word", "", "good"},
    {"usage_negative", "", "good"},
    {"bytes", NULL,
     "gooda\xEF\xBF\xBD\xEF\xBF\xBD"
     "b"},
    {"empty", NULL, "good"},
    {"unknown", NULL, "goodx"},
};

enum { garbage_count = sizeof garbages / sizeof garbages[0] };

static void check_garbage(const char *engine) {
    dynamo_runtime_t *runtime = start_engine(engine, "");
    for (size_t i = 0; i < garbage_count; ++i) {
        dynamo_request_t *request = sent(runtime, say(garbages[i].how));
        answer whole = receive_all(request);
        const char *type = garbages[i].type;
        if (whole.status !=
            (type == NULL ? (int32_t)DYNAMO_END : (int32_t)DYNAMO_ERROR_ENGINE_FAILED)) {
            fprintf(stderr, "  garbage \"%s\"\n", garbages[i].how);
        }
        CHECK_STATUS(whole.status,
                     type == NULL ? (int32_t)DYNAMO_END : (int32_t)DYNAMO_ERROR_ENGINE_FAILED);
        CHECK_TEXT(whole.text, garbages[i].text);
        if (type != NULL && type[0] != '\0') {
            check_contains_quoted(dynamo_request_error_json(request), type);
        }
        answer_free(&whole);
        dynamo_request_destroy(request);
    }
    finish(runtime);
}

static void garbage_on_the_loop(void) {
    check_garbage("garbage:Async");
    RELIABILITY("an engine yields garbage: wrong types, numbers out of range",
                (long long)garbage_count,
                "ENGINE_FAILED with the wrong member; its next request worked");
}
static void garbage_in_a_thread(void) {
    check_garbage("garbage:Threaded");
    RELIABILITY("an engine yields garbage in a thread", (long long)garbage_count,
                "ENGINE_FAILED with the wrong member; its next request worked");
}

/* -------------------------------------------------------------------------------------- waiting */

static void first_token_deadline(void) {
    const char *engines[] = {"stalling:Async", "stalling:Threaded"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime = start_engine(engines[i], "");
        dynamo_request_t *request = say("");
        CHECK_STATUS(dynamo_request_set_deadlines(request, 30, -1), DYNAMO_OK);
        check_answer(sent(runtime, request), "", DYNAMO_ERROR_DEADLINE_EXCEEDED);
        finish(runtime);
    }
    RELIABILITY(
        "an engine never yields, on the loop and in a thread; a deadline to the first token", 2,
        "DEADLINE_EXCEEDED");
}

static void total_deadline(void) {
    const char *engines[] = {"stalling:Async", "stalling:Threaded"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime = start_engine(engines[i], "");
        dynamo_request_t *request = say("");
        CHECK_STATUS(dynamo_request_set_deadlines(request, -1, 30), DYNAMO_OK);
        check_answer(sent(runtime, request), "", DYNAMO_ERROR_DEADLINE_EXCEEDED);
        finish(runtime);
    }
    RELIABILITY("an engine never yields; a deadline to the end", 2, "DEADLINE_EXCEEDED");
}

static void cancel_and_check(dynamo_request_t *request) {
    CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
    check_answer(request, "", DYNAMO_ERROR_CANCELLED);
}

static void cancelled_before_and_after_the_first_token(void) {
    const char *engines[] = {"stalling:Async", "stalling:Threaded"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime = start_engine(engines[i], "");
        cancel_and_check(sent(runtime, say("")));
        dynamo_request_t *request = sent(runtime, say("word"));
        dynamo_free(first_of(request));
        cancel_and_check(request);
        check_says(runtime, "go", "go");
        finish(runtime);
    }
}

static void cancelled_while_no_thread_is_free(void) {
    dynamo_runtime_t *runtime = start_engine("stalling:Threaded", ""); /* two threads */
    dynamo_request_t *running[2];
    for (int i = 0; i < 2; ++i) {
        running[i] = sent(runtime, say("word"));
        dynamo_free(first_of(running[i]));
    }
    dynamo_request_t *queued = sent(runtime, say("never"));
    cancel_and_check(queued);
    EVENTUALLY(statistic(runtime, "in_flight") == 2);
    dynamo_request_t *next = sent(runtime, say("go"));
    cancel_and_check(running[0]);
    check_answer(next, "go", DYNAMO_END);
    cancel_and_check(running[1]);
    finish(runtime);
}

static void cancelled_while_it_decodes(void) {
    const char *engines[] = {"leaving:Endless", "leaving:EndlessThreaded"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime = start_engine(engines[i], "'stream': {'capacity': 8}");
        for (int round = 0; round < 20; ++round) {
            dynamo_request_t *request = sent(runtime, say("x"));
            for (int taken = 0; taken < round; ++taken) {
                dynamo_free(first_of(request));
            }
            if (round % 2 == 0) {
                CHECK_STATUS(dynamo_request_cancel(request), DYNAMO_OK);
            }
            dynamo_request_destroy(request);
        }
        finish(runtime);
    }
    RELIABILITY("a request is cancelled, or destroyed, in the middle of an answer without an end",
                40, "the engine stopped; nothing stayed in flight");
}

/* A request whose thread does not check for cancellation stays in flight until the thread does, and the engine is not
   stopped before. */
static void an_engine_that_does_not_look(void) {
    dynamo_runtime_t *runtime = start_engine("stalling:Deaf", "");
    dynamo_runtime_t *other = start_engine("echoes:Async", "");
    dynamo_request_t *request = sent(runtime, say("x"));
    dynamo_free(first_of(request));
    cancel_and_check(request);
    check_says(other, "a b c d", "a b c d ");
    CHECK(statistic(runtime, "in_flight") == 1);
    check_says(runtime, "go", "");
    finish(runtime);
    finish(other);
    RELIABILITY("an engine in a thread does not look whether it was cancelled", 1,
                "CANCELLED for the caller at once; others went on");
}

static void an_engine_that_swallows_the_cancellation(void) {
    dynamo_runtime_t *runtime = start_engine("stalling:Stubborn", "");
    dynamo_request_t *request = sent(runtime, say("x"));
    dynamo_free(first_of(request));
    cancel_and_check(request);
    finish(runtime);
    RELIABILITY("an engine swallows the cancellation and goes on", 1,
                "CANCELLED for the caller; what it said afterwards was dropped");
}

static void *start_gated(void *unused) {
    (void)unused;
    return start_engine("stalling:GatedStart", "");
}

/* If the start blocked the asyncio event loop, this test would hang. */
static void a_start_that_blocks(void) {
    dynamo_runtime_t *opener = start_engine("stalling:Opener", "");
    dynamo_runtime_t *echo = start_engine("echoes:Async", "");
    pthread_t thread = spawn(start_gated, NULL);
    check_says(echo, "a", "a ");
    check_says(opener, "x", "opened");
    void *gated = NULL;
    CHECK(pthread_join(thread, &gated) == 0);
    check_says(gated, "x", "open");
    finish(gated);
    finish(opener);
    finish(echo);
    RELIABILITY("the start of an engine blocks", 1,
                "other engines went on; it started when it could");
}

static void shutdown_with_stalled_requests(void) {
    const char *engines[] = {"stalling:Async", "stalling:Threaded"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime = start_engine(engines[i], "");
        dynamo_request_t *requests[5];
        for (int k = 0; k < 5; ++k) {
            requests[k] = sent(runtime, say(""));
        }
        CHECK_STATUS(dynamo_runtime_shutdown(runtime, 0), DYNAMO_ERROR_DEADLINE_EXCEEDED);
        CHECK_CONTAINS(dynamo_last_error(), "5 request(s)");
        CHECK(strstr(dynamo_last_error(), "not stopped") == NULL);
        for (int k = 0; k < 5; ++k) {
            check_answer(requests[k], "", DYNAMO_ERROR_CANCELLED);
        }
        dynamo_runtime_destroy(runtime);
    }
    RELIABILITY("a runtime is shut down while its engine hangs", 10,
                "DEADLINE_EXCEEDED; each request ended with CANCELLED");
}

static void a_small_stream_loses_nothing(void) {
    const char *engines[] = {"echoes:Async", "echoes:Threaded"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime =
            start_engine(engines[i], "'stream': {'capacity': 4}, 'options': {'repeat': 100}");
        dynamo_request_t *requests[4];
        for (int k = 0; k < 4; ++k) {
            requests[k] = sent(runtime, say("a b c"));
        }
        EVENTUALLY(statistic(runtime, "full") >= 4);
        for (int k = 0; k < 4; ++k) {
            answer whole = receive_all(requests[k]);
            CHECK_STATUS(whole.status, DYNAMO_END);
            CHECK(whole.token_count == 300 && whole.length == 600 && whole.largest <= 4);
            for (size_t at = 0; at < 600; ++at) {
                CHECK(whole.text[at] == "a b c "[at % 6]);
            }
            answer_free(&whole);
            dynamo_request_destroy(requests[k]);
        }
        finish(runtime);
    }
}

/* -------------------------------------------------------------------------------------- logging */

static struct {
    pthread_mutex_t mutex;
    char text[65536];
} records = {PTHREAD_MUTEX_INITIALIZER, ""};

static void record(void *user, int32_t level, const char *logger, const char *message) {
    (void)user;
    pthread_mutex_lock(&records.mutex);
    const size_t length = strlen(records.text);
    snprintf(records.text + length, sizeof records.text - length, "[%d %s: %s]\n", (int)level,
             logger, message);
    pthread_mutex_unlock(&records.mutex);
}

static void what_engines_say(void) {
    capture out = capture_begin(1);
    capture err = capture_begin(2);
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_INFO, record, NULL, NULL), DYNAMO_OK);
    dynamo_runtime_t *runtime = start_engine("talking:Talker", "");
    check_says(runtime, "x", "talked");
    finish(runtime);
    dynamo_runtime_t *failing = start_engine("failing:InStop", "");
    finish(failing);
    CHECK_STATUS(dynamo_log_set_callback(DYNAMO_LOG_WARNING, NULL, NULL, NULL), DYNAMO_OK);
    char *written = capture_end(&err);
    CHECK_TEXT(written, "");
    free(written);
    written = capture_end(&out);
    CHECK_TEXT(written, "");
    free(written);
    CHECK_CONTAINS(records.text, "[2 python.stdout: printed to stdout]");
    CHECK_CONTAINS(records.text, "[2 python.stdout: printed in parts]");
    CHECK_CONTAINS(records.text, "[3 python.stderr: printed to stderr]");
    CHECK_CONTAINS(records.text, "[2 talker.inner: an info record]");
    CHECK_CONTAINS(records.text, "[3 talker.inner: a warning record: é]");
    CHECK_CONTAINS(records.text, "[4 talker.inner: not UTF-8: \\udc80]");
    CHECK_CONTAINS(records.text, "[4 talker.inner: an error record\nTraceback");
    CHECK_CONTAINS(records.text, "KeyError: 'why'");
    CHECK_CONTAINS(records.text, "UserWarning: a Python warning");
    CHECK_CONTAINS(records.text, "[3 py.warnings: ");
    CHECK_CONTAINS(records.text, "an engine failed to stop");
    CHECK_CONTAINS(records.text, "ValueError: a bad value");
    CHECK(strstr(records.text, "a debug record") == NULL);
}

static void a_socket_that_was_closed(void) {
    const char *engines[] = {"talking:Broken", "talking:BrokenInThread"};
    for (int i = 0; i < 2; ++i) {
        dynamo_runtime_t *runtime = start_engine(engines[i], "");
        check_says(runtime, "x", "BrokenPipeError");
        finish(runtime);
    }
}

int main(void) {
    BEGIN();
    RUN(asynchronous_generator);
    RUN(generator_in_a_thread);
    RUN(anything_that_can_be_iterated);
    RUN(two_engines_at_once);
    RUN(failing_on_the_loop);
    RUN(failing_in_a_thread);
    RUN(generate_without_a_generator);
    RUN(engines_that_do_not_start);
    RUN(garbage_on_the_loop);
    RUN(garbage_in_a_thread);
    RUN(first_token_deadline);
    RUN(total_deadline);
    RUN(cancelled_before_and_after_the_first_token);
    RUN(cancelled_while_no_thread_is_free);
    RUN(cancelled_while_it_decodes);
    RUN(an_engine_that_does_not_look);
    RUN(an_engine_that_swallows_the_cancellation);
    RUN(a_start_that_blocks);
    RUN(shutdown_with_stalled_requests);
    RUN(a_small_stream_loses_nothing);
    RUN(what_engines_say);
    RUN(a_socket_that_was_closed);
    return 0;
}
