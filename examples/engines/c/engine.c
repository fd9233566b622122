/* A step-level engine with its own thread: continuous batching. Each step generates one token for every running
 * sequence, or reads a part of its prompt, and then pushes all tokens of the step at once. A new request joins the next
 * step, a finished one frees its slot immediately, and one whose reader is slow skips steps. */
#include "engine.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../babble.h"

/* One request, owned by the list that contains it. Only the step thread frees sequences in `running`, so it can use
 * them without the lock. */
typedef struct sequence {
    struct sequence *next; /* used only in `waiting` */
    dynamo_stream_t *stream;
    babble_t answer;
    size_t prompt_left; /* prompt tokens that are not read yet */
    int has_chunk;      /* the stream has not accepted the last token yet */
    /* The following require the lock. */
    int is_cancelled;
    int is_full;     /* the last push returned DYNAMO_PENDING */
    int is_writable; /* on_writable() was called since then */
} sequence;

typedef struct engine {
    size_t max_running;
    size_t prefill_tokens;
    size_t step_us;
    size_t context_length;
    int gives_tokens;
    engine_report *report;
    char description[128];

    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* The following require the lock. */
    int is_stopping;
    sequence *waiting;      /* first element */
    sequence **waiting_end; /* where the next element is linked */
    sequence *running[most_running];
    size_t running_count;
} engine;

/* ---------------------------------------------------------------------------------- sequences */

/* Ends the stream and frees the sequence. The caller must not hold the lock: the library may call back from here. */
static void end_sequence(sequence *which) {
    const dynamo_usage_t usage = babble_usage(&which->answer);
    dynamo_stream_finish(which->stream, which->answer.finish, &usage);
    babble_free(&which->answer);
    free(which);
}

/* -------------------------------------------------------------------------------- the step loop */

/* Returns whether a step would advance the sequence. Requires the lock. */
static int can_advance(const sequence *which) {
    return which->is_cancelled || !which->is_full || which->is_writable;
}

static int has_work(const engine *self) {
    if (self->waiting != NULL && self->running_count < self->max_running)
        return 1;
    for (size_t i = 0; i < self->running_count; ++i)
        if (can_advance(self->running[i]))
            return 1;
    return 0;
}

/* Moves waiting sequences to `running`, up to the limit. Requires the lock. */
static void admit(engine *self) {
    while (self->waiting != NULL && self->running_count < self->max_running) {
        sequence *first = self->waiting;
        self->waiting = first->next;
        if (self->waiting == NULL)
            self->waiting_end = &self->waiting;
        self->running[self->running_count++] = first;
    }
}

/* Removes cancelled sequences from `running` and returns their number. Requires the lock. */
static size_t take_cancelled(engine *self, sequence **cancelled) {
    size_t count = 0;
    size_t kept = 0;
    for (size_t i = 0; i < self->running_count; ++i) {
        if (self->running[i]->is_cancelled)
            cancelled[count++] = self->running[i];
        else
            self->running[kept++] = self->running[i];
    }
    self->running_count = kept;
    return count;
}

/* Chooses the sequences that get a token, or read their prompt, in this step, and returns their number. Requires the
 * lock. */
static size_t choose_batch(engine *self, sequence **batch) {
    size_t count = 0;
    for (size_t i = 0; i < self->running_count; ++i) {
        sequence *which = self->running[i];
        if (which->is_full && !which->is_writable)
            continue;
        which->is_full = which->is_writable = 0; /* before the push: no on_writable() is lost */
        batch[count++] = which;
    }
    return count;
}

/* Does the model's work, the longest part of a step. Returns the number of pushes. Runs without the lock. */
static size_t compute(engine *self, sequence **batch, size_t count, dynamo_push_t *pushes,
                      dynamo_chunk_t *chunks, sequence **pushed) {
    size_t budget = self->prefill_tokens;
    size_t push_count = 0;
    for (size_t i = 0; i < count; ++i) {
        sequence *which = batch[i];
        if (which->prompt_left > 0) {
            const size_t part = which->prompt_left < budget ? which->prompt_left : budget;
            which->prompt_left -= part;
            budget -= part;
            continue;
        }
        if (!which->has_chunk) {
            babble_step(&which->answer);
            which->has_chunk = 1;
        }
        chunks[push_count] = babble_chunk(&which->answer);
        pushes[push_count] = (dynamo_push_t){which->stream, &chunks[push_count], DYNAMO_OK};
        pushed[push_count++] = which;
    }
    if (self->step_us > 0) {
        const struct timespec pause = {(time_t)(self->step_us / 1000000),
                                       (long)(self->step_us % 1000000) * 1000};
        nanosleep(&pause, NULL);
    }
    return push_count;
}

static void take_out(engine *self, const sequence *which) {
    size_t i = 0;
    while (self->running[i] != which)
        ++i;
    self->running[i] = self->running[--self->running_count];
}

/* Records the results of the pushes. Returns the number of sequences that have ended. Requires the lock. */
static size_t commit(engine *self, const dynamo_push_t *pushes, size_t count, sequence **pushed) {
    size_t ended = 0;
    for (size_t i = 0; i < count; ++i) {
        sequence *which = pushed[i];
        if (pushes[i].status == DYNAMO_PENDING) {
            which->is_full = 1; /* on_writable() may have been called already */
            continue;
        }
        which->has_chunk = 0;
        babble_taken(&which->answer);
        if (pushes[i].status != DYNAMO_OK || which->answer.finish != NULL) {
            take_out(self, which);
            pushed[ended++] = which;
        }
    }
    return ended;
}

static void *run(void *argument) {
    engine *self = argument;
    sequence *batch[most_running];
    sequence *pushed[most_running];
    dynamo_push_t pushes[most_running];
    dynamo_chunk_t chunks[most_running];
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (!has_work(self) && !self->is_stopping)
            pthread_cond_wait(&self->changed, &self->mutex);
        if (self->is_stopping)
            break;
        size_t ended = take_cancelled(self, pushed);
        admit(self);
        const size_t count = choose_batch(self, batch);
        pthread_mutex_unlock(&self->mutex);
        for (size_t i = 0; i < ended; ++i)
            end_sequence(pushed[i]);
        const size_t push_count = compute(self, batch, count, pushes, chunks, pushed);
        dynamo_stream_push_many(pushes, push_count, sizeof *pushes);
        pthread_mutex_lock(&self->mutex);
        if (self->report != NULL && push_count > 0) {
            ++self->report->steps;
            ++self->report->of_size[push_count];
        }
        ended = commit(self, pushes, push_count, pushed);
        pthread_mutex_unlock(&self->mutex);
        for (size_t i = 0; i < ended; ++i)
            end_sequence(pushed[i]);
        pthread_mutex_lock(&self->mutex);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

/* -------------------------------------------------------------------------------- start and stop */

typedef struct option {
    const char *name;
    size_t *value;
    size_t least;
    size_t most;
} option;

/* Reads the member `name` of "options". */
static int32_t read_option(const dynamo_json_t *config, const char *name, const option *options,
                           size_t count) {
    char message[256];
    size_t i = 0;
    while (i < count && strcmp(name, options[i].name) != 0)
        ++i;
    if (i == count) {
        snprintf(message, sizeof message, "\"options\" has no key \"%.64s\"; there are \"%s\"",
                 name, "max_running\", \"prefill_tokens\", \"step_us\" and \"context_length");
        return dynamo_engine_error(DYNAMO_ERROR_INVALID_CONFIG, message, NULL);
    }
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/options/%s", name);
    const int64_t number = dynamo_json_integer(config, pointer, -1);
    if (number < (int64_t)options[i].least || number > (int64_t)options[i].most) {
        snprintf(message, sizeof message, "\"options.%s\" must be an integer from %zu to %zu", name,
                 options[i].least, options[i].most);
        return dynamo_engine_error(DYNAMO_ERROR_INVALID_CONFIG, message, NULL);
    }
    *options[i].value = (size_t)number;
    return DYNAMO_OK;
}

static int32_t read_options(const char *config_json, const option *options, size_t count) {
    dynamo_json_t *config = dynamo_json_create(config_json);
    if (config == NULL)
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "no memory for the options", NULL);
    const size_t given = dynamo_json_count(config, "/options");
    int32_t status = DYNAMO_OK;
    for (size_t i = 0; i < given && status == DYNAMO_OK; ++i)
        status = read_option(config, dynamo_json_name(config, "/options", i), options, count);
    dynamo_json_destroy(config);
    return status;
}

static int32_t start(engine_report *report, const char *config_json, void **instance,
                     int gives_tokens) {
    engine *self = calloc(1, sizeof *self);
    if (self == NULL)
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "no memory for the engine", NULL);
    self->max_running = most_running;
    self->prefill_tokens = 256;
    self->context_length = 4096;
    self->gives_tokens = gives_tokens;
    self->report = report;
    self->waiting_end = &self->waiting;
    const option options[] = {{"max_running", &self->max_running, 1, most_running},
                              {"prefill_tokens", &self->prefill_tokens, 1, 1000000},
                              {"step_us", &self->step_us, 0, 10000000},
                              {"context_length", &self->context_length, 2, 1000000000}};
    const int32_t status = read_options(config_json, options, sizeof options / sizeof *options);
    if (status != DYNAMO_OK) {
        free(self);
        return status;
    }
    snprintf(self->description, sizeof self->description,
             "{\"context_length\": %zu, \"capabilities\": [%s\"completion\", \"seed\"]}",
             self->context_length, gives_tokens ? "" : "\"chat\", ");
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->changed, NULL);
    if (pthread_create(&self->thread, NULL, run, self) != 0) {
        pthread_mutex_destroy(&self->mutex);
        pthread_cond_destroy(&self->changed);
        free(self);
        return dynamo_engine_error(DYNAMO_ERROR_SYSTEM, "no thread for the engine", NULL);
    }
    *instance = self;
    return DYNAMO_OK;
}

static int32_t start_text(void *user, const char *config_json, void **instance) {
    return start(user, config_json, instance, 0);
}

static int32_t start_tokens(void *user, const char *config_json, void **instance) {
    return start(user, config_json, instance, 1);
}

/* ---------------------------------------------------------------------------------- callbacks */

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)request_id;
    engine *self = instance;
    sequence *which = calloc(1, sizeof *which);
    if (which == NULL)
        return dynamo_engine_error(DYNAMO_ERROR_OUT_OF_MEMORY, "no memory for a sequence", NULL);
    const int32_t status =
        babble_read(&which->answer, request_json, self->gives_tokens, self->context_length);
    if (status != DYNAMO_OK) { /* the request is refused: its stream is not ours */
        babble_free(&which->answer);
        free(which);
        return status;
    }
    which->stream = stream;
    which->prompt_left = which->answer.prompt_tokens;
    pthread_mutex_lock(&self->mutex);
    *self->waiting_end = which;
    self->waiting_end = &which->next;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    return DYNAMO_OK;
}

/* The step thread ends a running sequence before its next step; a waiting sequence is ended here. */
static void cancel(void *instance, dynamo_stream_t *stream) {
    engine *self = instance;
    sequence *out = NULL;
    pthread_mutex_lock(&self->mutex);
    for (sequence **at = &self->waiting; *at != NULL; at = &(*at)->next)
        if ((*at)->stream == stream) {
            out = *at;
            *at = out->next;
            if (out->next == NULL)
                self->waiting_end = at;
            break;
        }
    for (size_t i = 0; i < self->running_count; ++i)
        if (self->running[i]->stream == stream)
            self->running[i]->is_cancelled = 1;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    if (out != NULL)
        end_sequence(out);
}

static void on_writable(void *instance, dynamo_stream_t *stream) {
    engine *self = instance;
    pthread_mutex_lock(&self->mutex);
    for (size_t i = 0; i < self->running_count; ++i)
        if (self->running[i]->stream == stream)
            self->running[i]->is_writable = 1;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

static const char *describe(void *instance) {
    return ((engine *)instance)->description;
}

/* No request is in flight when stop() is called, so no sequences are left. */
static void stop(void *instance) {
    engine *self = instance;
    pthread_mutex_lock(&self->mutex);
    self->is_stopping = 1;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    pthread_join(self->thread, NULL);
    pthread_mutex_destroy(&self->mutex);
    pthread_cond_destroy(&self->changed);
    free(self);
}

const dynamo_engine_t engine_of_text = {
    .struct_size = sizeof engine_of_text,
    .start = start_text,
    .generate = generate,
    .cancel = cancel,
    .on_writable = on_writable,
    .stop = stop,
    .kind = DYNAMO_ENGINE_TEXT,
    .describe = describe,
};

const dynamo_engine_t engine_of_tokens = {
    .struct_size = sizeof engine_of_tokens,
    .start = start_tokens,
    .generate = generate,
    .cancel = cancel,
    .on_writable = on_writable,
    .stop = stop,
    .kind = DYNAMO_ENGINE_TOKENS,
    .describe = describe,
};
