/* SPDX-License-Identifier: Apache-2.0 */
/* The same tokens over HTTP: libcurl reads all streams of server-sent events in one thread.
 *
 *   http URL PROMPT STREAMS [BURSTS]
 *
 * PROMPT is a prompt, or a whole body in JSON.
 *
 * Splits the stream into events and finds "content" or "text" by string search, which costs less than parsing JSON.
 * A round sends STREAMS requests, BURSTS times. Prints tokens, seconds, seconds of CPU time, and the median of the seconds
 * to the first token. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct stream {
    CURL *handle;
    char *buffer;
    size_t used;
    size_t tokens;
    size_t bytes;
    double sent;  /* when */
    double first; /* seconds to the first token */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void take_event(struct stream *stream, const char *event) {
    const char *text = strstr(event, "\"text\":");
    if (text == NULL) {
        return;
    }
    text = strchr(text + 7, '"') + 1;
    stream->bytes += (size_t)(strchr(text, '"') - text);
    if (++stream->tokens == 1) {
        stream->first = now() - stream->sent;
    }
}

static size_t on_data(char *data, size_t one, size_t count, void *argument) {
    struct stream *const stream = argument;
    stream->buffer = realloc(stream->buffer, stream->used + count + 1);
    memcpy(stream->buffer + stream->used, data, count);
    stream->used += count;
    stream->buffer[stream->used] = '\0';
    char *begin = stream->buffer, *end;
    while ((end = strstr(begin, "\n\n")) != NULL) {
        *end = '\0';
        if (strncmp(begin, "data: {", 7) == 0) {
            take_event(stream, begin + 6);
        }
        begin = end + 2;
    }
    stream->used -= (size_t)(begin - stream->buffer);
    memmove(stream->buffer, begin, stream->used + 1);
    return one * count;
}

/* Sends the requests and reads the answers. Returns the number of tokens, or -1. */
static long burst(CURLM *all, struct stream *streams, int count) {
    for (int i = 0; i < count; ++i) {
        streams[i].tokens = streams[i].used = 0;
        streams[i].sent = now();
        curl_multi_add_handle(all, streams[i].handle);
    }
    int running = 1;
    while (running > 0) {
        curl_multi_perform(all, &running);
        if (running > 0) {
            curl_multi_poll(all, NULL, 0, 1000, NULL);
        }
    }
    long tokens = 0;
    for (int i = 0; i < count; ++i) {
        long status = 0;
        curl_easy_getinfo(streams[i].handle, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200) {
            fprintf(stderr, "the server said %ld\n", status);
            return -1;
        }
        curl_multi_remove_handle(all, streams[i].handle);
        tokens += (long)streams[i].tokens;
    }
    return tokens;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: http URL PROMPT STREAMS [BURSTS]\n");
        return 2;
    }
    const int bursts = argc == 5 ? atoi(argv[4]) : 1;
    const int count = atoi(argv[3]);
    char body[256];
    snprintf(body, sizeof body, "{\"prompt\": \"%s\", \"stream\": true, \"model\": \"bench\"}",
             argv[2]);
    curl_global_init(CURL_GLOBAL_ALL);
    CURLM *const all = curl_multi_init();
    struct curl_slist *const headers = curl_slist_append(NULL, "Content-Type: application/json");
    struct stream *const streams = calloc((size_t)count, sizeof *streams);
    for (int i = 0; i < count; ++i) {
        CURL *const handle = streams[i].handle = curl_easy_init();
        curl_easy_setopt(handle, CURLOPT_URL, argv[1]);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, argv[2][0] == '{' ? argv[2] : body);
        curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(handle, CURLOPT_WRITEDATA, &streams[i]);
    }
    double *const firsts = calloc((size_t)(count * bursts), sizeof *firsts);
    printf("ready\n");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const double cpu_before = cpu();
        const double begin = now();
        long tokens = 0;
        for (int i = 0; i < bursts; ++i) {
            const long more = burst(all, streams, count);
            if (more < 0) {
                return 1;
            }
            tokens += more;
            for (int j = 0; j < count; ++j) {
                firsts[i * count + j] = streams[j].first;
            }
        }
        const double seconds = now() - begin;
        qsort(firsts, (size_t)(count * bursts), sizeof *firsts, ascending);
        printf("{\"tokens\": %ld, \"seconds\": %.9f, \"cpu\": %.9f, \"first\": %.9f}\n", tokens,
               seconds, cpu() - cpu_before, firsts[count * bursts / 2]);
        fflush(stdout);
    }
    return 0;
}
