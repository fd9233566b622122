/* SPDX-License-Identifier: Apache-2.0 */
/* Compares an engine and a reader in C with a bare queue: a ring between two threads, one token per message. As with
 * the library, the ring's reader owns what it receives, and an idle thread sleeps.
 *
 *   c_to_c TOKENS
 *
  * A round sends TOKENS tokens through each. Prints tokens and the seconds of both. */
#include <dynamo_llm/engine.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "bench.h"

static const char text[] = " tok";

/* --- the engine --- */

static size_t wanted;
static pthread_t producer;

static void *produce(void *argument) {
    dynamo_stream_t *const stream = argument;
    for (uint32_t i = 0; i < wanted; ++i) {
        dynamo_chunk_t chunk = {.struct_size = sizeof chunk};
        chunk.text = text;
        chunk.text_length = sizeof text - 1;
        chunk.token_ids = &i;
        chunk.token_count = 1;
        int32_t status;
        while ((status = dynamo_stream_push(stream, &chunk)) == DYNAMO_PENDING) {
            dynamo_stream_wait(stream, -1);
        }
        check(status == DYNAMO_OK, "push");
    }
    dynamo_stream_finish(stream, NULL, NULL);
    return NULL;
}

static int32_t start_engine(void *user, const char *config_json, void **instance) {
    (void)config_json;
    *instance = user;
    return DYNAMO_OK;
}

static int32_t generate(void *instance, dynamo_stream_t *stream, const char *request_id,
                        const char *request_json) {
    (void)instance, (void)request_id, (void)request_json;
    check(pthread_create(&producer, NULL, produce, stream) == 0, "no thread");
    return DYNAMO_OK;
}

static void cancel(void *instance, dynamo_stream_t *stream) {
    (void)instance, (void)stream;
}

static void stop_engine(void *instance) {
    (void)instance;
}

static const dynamo_engine_t engine = {
    .struct_size = sizeof engine,
    .start = start_engine,
    .generate = generate,
    .cancel = cancel,
    .stop = stop_engine,
};

static double through_the_library(dynamo_runtime_t *runtime) {
    dynamo_request_t *const request = completion("x");
    const double begin = now();
    check(dynamo_request_send(runtime, request) == DYNAMO_OK, "send");
    size_t tokens = 0;
    dynamo_response_t *response = NULL;
    int32_t status;
    while ((status = dynamo_request_next(request, -1, &response)) == DYNAMO_OK) {
        size_t count = 0;
        dynamo_response_token_ids(response, &count);
        tokens += count;
        dynamo_free(response);
    }
    const double seconds = now() - begin;
    check(status == DYNAMO_END && tokens == wanted, "the answer");
    pthread_join(producer, NULL);
    dynamo_request_destroy(request);
    return seconds;
}

/* --- the ring --- */

enum { slots = 4096 };

struct token {
    uint32_t id;
    uint32_t length;
    char *text;
};

/* One side of the ring: its position, and whether it sleeps until the other side advances. */
struct side {
    _Alignas(64) atomic_size_t position;
    atomic_int sleeps;
    sem_t wakes;
};

static struct token ring[slots];
static struct side writer, reader;

static void go_on(struct side *side, struct side *other, size_t position) {
    atomic_store(&side->position, position);
    if (atomic_load(&other->sleeps) && atomic_exchange(&other->sleeps, 0)) {
        sem_post(&other->wakes);
    }
}

/* Waits until the other side has moved past `position`, and returns its position. */
static size_t wait_beyond(struct side *side, struct side *other, size_t position) {
    size_t there = atomic_load_explicit(&other->position, memory_order_acquire);
    while (there == position) {
        atomic_store(&side->sleeps, 1);
        there = atomic_load(&other->position);
        if (there == position || !atomic_exchange(&side->sleeps, 0)) {
            sem_wait(&side->wakes); /* the other side has posted, or will post */
            there = atomic_load(&other->position);
        }
    }
    return there;
}

static void *fill_ring(void *unused) {
    (void)unused;
    size_t seen = 0;
    for (size_t i = 0; i < wanted; ++i) {
        if (i - seen == slots) {
            seen = wait_beyond(&writer, &reader, seen);
        }
        struct token *const token = &ring[i % slots];
        token->id = (uint32_t)i;
        token->length = sizeof text - 1;
        token->text = malloc(sizeof text);
        memcpy(token->text, text, sizeof text);
        go_on(&writer, &reader, i + 1);
    }
    return NULL;
}

static void prepare(struct side *side) {
    atomic_store(&side->position, 0);
    atomic_store(&side->sleeps, 0);
    sem_init(&side->wakes, 0, 0);
}

static double through_the_ring(void) {
    prepare(&writer);
    prepare(&reader);
    pthread_t thread;
    const double begin = now();
    check(pthread_create(&thread, NULL, fill_ring, NULL) == 0, "no thread");
    size_t seen = 0, bytes = 0;
    for (size_t i = 0; i < wanted; ++i) {
        if (seen == i) {
            seen = wait_beyond(&reader, &writer, i);
        }
        const struct token token = ring[i % slots];
        go_on(&reader, &writer, i + 1);
        bytes += token.length;
        free(token.text);
    }
    const double seconds = now() - begin;
    check(bytes == wanted * (sizeof text - 1), "the ring");
    pthread_join(thread, NULL);
    return seconds;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: c_to_c TOKENS\n");
        return 2;
    }
    wanted = (size_t)atol(argv[1]);
    check(dynamo_engine_register("counting", &engine, &wanted, NULL) == DYNAMO_OK, "register");
    dynamo_runtime_t *const runtime = start("{\"engine\": \"counting\"}");
    for (int go = ready(); go; go = another_round()) {
        const double ours = through_the_library(runtime);
        const double base = through_the_ring();
        printf("{\"tokens\": %zu, \"seconds\": %.9f, \"base_seconds\": %.9f}\n", wanted, ours,
               base);
    }
    dynamo_runtime_destroy(runtime);
    return 0;
}
