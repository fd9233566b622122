/* SPDX-License-Identifier: Apache-2.0 */
/* The same tokens over HTTP: libcurl reads all streams of server-sent events in one thread.
 *
 *   http URL PROMPT STREAMS
 *
  * PROMPT is a prompt, or a whole body in JSON.
 *
  * Splits the stream into events and finds "content" or "text" by string search, which costs less than parsing JSON.
 * Prints tokens and seconds of a round of STREAMS requests. */
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
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void take_event(struct stream *stream, const char *event) {
    const char *text = strstr(event, "\"text\":");
    if (text == NULL) {
        return;
    }
    text = strchr(text + 7, '"') + 1;
    stream->bytes += (size_t)(strchr(text, '"') - text);
    ++stream->tokens;
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

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: http URL PROMPT STREAMS\n");
        return 2;
    }
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
    printf("ready\n");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const double begin = now();
        for (int i = 0; i < count; ++i) {
            streams[i].tokens = streams[i].used = 0;
            curl_multi_add_handle(all, streams[i].handle);
        }
        int running = 1;
        while (running > 0) {
            curl_multi_perform(all, &running);
            if (running > 0) {
                curl_multi_poll(all, NULL, 0, 1000, NULL);
            }
        }
        const double seconds = now() - begin;
        size_t tokens = 0;
        for (int i = 0; i < count; ++i) {
            long status = 0;
            curl_easy_getinfo(streams[i].handle, CURLINFO_RESPONSE_CODE, &status);
            if (status != 200) {
                fprintf(stderr, "the server said %ld\n", status);
                return 1;
            }
            curl_multi_remove_handle(all, streams[i].handle);
            tokens += streams[i].tokens;
        }
        printf("{\"tokens\": %zu, \"seconds\": %.9f}\n", tokens, seconds);
        fflush(stdout);
    }
    return 0;
}
