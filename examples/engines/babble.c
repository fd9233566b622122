#include "babble.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- the model */

static const char model_text[] =
    " A request waits in the queue until there is room for it. The prompt is read first, a part of "
    "it in every step, "
    "and that is called prefill. Then each step gives one token to each sequence, and that is "
    "called decode. A "
    "sequence that has ended makes room for the next one, and the batch is full again. The cache "
    "keeps the keys and "
    "the values of each token, so that no token is read twice \xF0\x9F\xA6\x80. A caf\xC3\xA9 in "
    "Z\xC3\xBCrich works "
    "in the same way: one cook, many orders, a step for each plate. "
    "\xE6\xB3\xA8\xE6\x96\x87\xE3\x81\xAF\xE9\xA0\x86\xE7\x95\xAA\xE3\x81\xAB\xE5\x87\xBA\xE3\x81"
    "\xBE\xE3\x81\x99. A "
    "reader that is slow makes its own sequence wait, and no other. The reader that is gone makes "
    "room at once.";

enum { longest_token = 5, most_tokens = 400 };

static struct {
    size_t begin[most_tokens + 1];
    uint32_t id[most_tokens]; /* equal tokens share the number of the first */
    size_t count;
} model;

static int same_token(size_t a, size_t b) {
    const size_t length = model.begin[a + 1] - model.begin[a];
    return length == model.begin[b + 1] - model.begin[b] &&
           memcmp(model_text + model.begin[a], model_text + model.begin[b], length) == 0;
}

/* Splits the text into tokens before each space and after a number of bytes, so possibly inside code points. */
static void load_model(void) {
    for (size_t at = 0; at < sizeof model_text - 1;) {
        model.begin[model.count] = at;
        const size_t begin = at++;
        while (at < sizeof model_text - 1 && model_text[at] != ' ' && at - begin < longest_token)
            ++at;
        model.begin[++model.count] = at;
    }
    for (size_t i = 0; i < model.count; ++i)
        for (model.id[i] = 0; !same_token(model.id[i], i);)
            ++model.id[i];
}

static uint64_t next_random(uint64_t *state) { /* xorshift64* */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (*state * UINT64_C(2685821657736338717)) >> 32;
}

static int ends_sentence(size_t place) {
    return model_text[model.begin[place + 1] - 1] == '.';
}

/* Returns the position of a random token that satisfies `fits`. At least one must. */
static size_t choose(uint64_t *random, int (*fits)(size_t place, size_t like), size_t like) {
    size_t count = 0;
    for (size_t i = 0; i < model.count; ++i)
        count += (size_t)fits(i, like);
    size_t skip = next_random(random) % count;
    for (size_t i = 0;; ++i)
        if (fits(i, like) && skip-- == 0)
            return i;
}

static int begins_sentence(size_t place, size_t like) {
    (void)like;
    return place == 0 || ends_sentence(place - 1);
}

static int follows(size_t place, size_t like) {
    return model.id[place == 0 ? model.count - 1 : place - 1] == model.id[like];
}

/* -------------------------------------------------------------------------------- the request */

static int32_t refuse(int32_t status, const char *message) {
    return dynamo_engine_error(status, message, NULL);
}

static int32_t refuse_memory(void) {
    return refuse(DYNAMO_ERROR_OUT_OF_MEMORY, "no memory is left for another request");
}

static void mix(uint64_t *hash, uint64_t value) { /* FNV-1a */
    *hash = (*hash ^ value) * UINT64_C(1099511628211);
}

static int32_t read_prompt_text(babble_t *answer, const dynamo_json_t *body, const char *pointer) {
    size_t length;
    const char *text = dynamo_json_string(body, pointer, &length);
    if (text == NULL)
        return refuse(
            DYNAMO_ERROR_NOT_SUPPORTED,
            "this engine takes a prompt that is a string, and messages whose content is one");
    for (size_t i = 0; i < length; ++i)
        mix(&answer->random, (unsigned char)text[i]);
    answer->prompt_tokens += (length + longest_token - 1) / longest_token;
    return DYNAMO_OK;
}

static int32_t read_prompt_ids(babble_t *answer, const dynamo_json_t *body) {
    if (dynamo_json_type(body, "/prompt") != DYNAMO_JSON_ARRAY)
        return refuse(DYNAMO_ERROR_INVALID_REQUEST,
                      "this engine takes \"prompt\" as an array of token ids");
    answer->prompt_tokens = dynamo_json_count(body, "/prompt");
    for (size_t i = 0; i < answer->prompt_tokens; ++i) {
        char pointer[32];
        snprintf(pointer, sizeof pointer, "/prompt/%zu", i);
        mix(&answer->random, (uint64_t)dynamo_json_integer(body, pointer, 0));
    }
    return DYNAMO_OK;
}

static int32_t read_messages(babble_t *answer, const dynamo_json_t *body) {
    const size_t count = dynamo_json_count(body, "/messages");
    for (size_t i = 0; i < count; ++i) {
        char pointer[40];
        snprintf(pointer, sizeof pointer, "/messages/%zu/content", i);
        if (dynamo_json_type(body, pointer) == DYNAMO_JSON_ABSENT)
            continue;
        const int32_t status = read_prompt_text(answer, body, pointer);
        if (status < 0)
            return status;
    }
    return DYNAMO_OK;
}

static int32_t add_stop(babble_t *answer, const dynamo_json_t *body, const char *pointer) {
    size_t length;
    const char *text = dynamo_json_string(body, pointer, &length);
    if (text == NULL)
        return refuse(DYNAMO_ERROR_INVALID_REQUEST,
                      "\"stop\" must be a string or an array of strings");
    if (*text == '\0')
        return DYNAMO_OK; /* an empty string is ignored */
    char **stops = realloc(answer->stops, (answer->stop_count + 1) * sizeof *stops);
    if (stops == NULL)
        return refuse_memory();
    answer->stops = stops;
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return refuse_memory();
    memcpy(copy, text, length + 1);
    stops[answer->stop_count++] = copy;
    return DYNAMO_OK;
}

static int32_t read_stops(babble_t *answer, const dynamo_json_t *body) {
    if (dynamo_json_type(body, "/stop") != DYNAMO_JSON_ARRAY)
        return add_stop(answer, body, "/stop");
    const size_t count = dynamo_json_count(body, "/stop");
    int32_t status = DYNAMO_OK;
    for (size_t i = 0; i < count && status == DYNAMO_OK; ++i) {
        char pointer[32];
        snprintf(pointer, sizeof pointer, "/stop/%zu", i);
        status = add_stop(answer, body, pointer);
    }
    return status;
}

static int32_t read_stop_ids(babble_t *answer, const dynamo_json_t *body) {
    const size_t count = dynamo_json_count(body, "/stop_token_ids");
    uint32_t *ids = malloc((count + 1) * sizeof *ids);
    if (ids == NULL)
        return refuse_memory();
    answer->stop_ids = ids;
    answer->stop_id_count = count;
    for (size_t i = 0; i < count; ++i) {
        char pointer[48];
        snprintf(pointer, sizeof pointer, "/stop_token_ids/%zu", i);
        ids[i] = (uint32_t)dynamo_json_integer(body, pointer, UINT32_MAX);
    }
    return DYNAMO_OK;
}

/* Reads the member `name` of the body. */
static int32_t read_member(babble_t *answer, const dynamo_json_t *body, const char *name) {
    /* Keys that do not affect the answer, at least not of this model. */
    static const char *const ignored[] = {"model", "stream", "stream_options", "user",
                                          "temperature"};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; ++i)
        if (strcmp(name, ignored[i]) == 0)
            return DYNAMO_OK;
    char pointer[64];
    snprintf(pointer, sizeof pointer, "/%s", name);
    if (dynamo_json_type(body, pointer) == DYNAMO_JSON_NULL)
        return DYNAMO_OK;
    if (strcmp(name, "messages") == 0 && !answer->gives_tokens)
        return read_messages(answer, body);
    if (strcmp(name, "prompt") == 0)
        return answer->gives_tokens ? read_prompt_ids(answer, body)
                                    : read_prompt_text(answer, body, pointer);
    if (strcmp(name, "max_tokens") == 0 || strcmp(name, "max_completion_tokens") == 0)
        answer->max_tokens = (size_t)dynamo_json_integer(body, pointer, 0);
    else if (strcmp(name, "seed") == 0)
        mix(&answer->random, (uint64_t)dynamo_json_integer(body, pointer, 0));
    else if (strcmp(name, "ignore_eos") == 0)
        answer->ignore_eos = dynamo_json_boolean(body, pointer, 0);
    else if (strcmp(name, "min_tokens") == 0)
        answer->min_tokens = (size_t)dynamo_json_integer(body, pointer, 0);
    else if (strcmp(name, "stop") == 0 && !answer->gives_tokens)
        return read_stops(answer, body);
    else if (strcmp(name, "stop_token_ids") == 0)
        return read_stop_ids(answer, body);
    else if (strcmp(name, "n") != 0 || dynamo_json_integer(body, pointer, 0) != 1) {
        char message[160];
        snprintf(message, sizeof message, "this engine cannot do \"%.64s\"; leave it out", name);
        return refuse(DYNAMO_ERROR_NOT_SUPPORTED, message);
    }
    return DYNAMO_OK;
}

int32_t babble_read(babble_t *answer, const char *request_json, int gives_tokens,
                    size_t context_length) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_model);
    answer->random = UINT64_C(14695981039346656037);
    answer->gives_tokens = gives_tokens;
    answer->max_tokens = context_length;
    dynamo_json_t *body = dynamo_json_create(request_json);
    if (body == NULL)
        return refuse_memory();
    const size_t count = dynamo_json_count(body, "");
    int32_t status = DYNAMO_OK;
    for (size_t i = 0; i < count && status == DYNAMO_OK; ++i)
        status = read_member(answer, body, dynamo_json_name(body, "", i));
    dynamo_json_destroy(body);
    if (status < 0)
        return status;
    if (answer->prompt_tokens >= context_length) {
        char message[160];
        snprintf(message, sizeof message,
                 "the prompt has %zu tokens, and the context length is %zu; shorten the prompt",
                 answer->prompt_tokens, context_length);
        return refuse(DYNAMO_ERROR_CONTEXT_LENGTH, message);
    }
    if (answer->max_tokens > context_length - answer->prompt_tokens)
        answer->max_tokens = context_length - answer->prompt_tokens;
    /* The text that is held back is shorter than the longest stop string, and one token is appended to it. */
    size_t longest = 0;
    for (size_t i = 0; i < answer->stop_count; ++i)
        if (strlen(answer->stops[i]) > longest)
            longest = strlen(answer->stops[i]);
    answer->text = malloc(longest + longest_token);
    if (answer->text == NULL)
        return refuse_memory();
    answer->random |= 1; /* xorshift never leaves 0 */
    answer->place = choose(&answer->random, begins_sentence, 0);
    return DYNAMO_OK;
}

/* --------------------------------------------------------------------------------- the answer */

static int is_stop_id(const babble_t *answer) {
    for (size_t i = 0; i < answer->stop_id_count; ++i)
        if (answer->stop_ids[i] == answer->token)
            return 1;
    return 0;
}

/* Cuts the text at the first stop string. If there is none, sets `shown` to the length of the text that cannot be part
   of a stop string. */
static void look_for_stops(babble_t *answer) {
    const size_t length = answer->length;
    answer->shown = length;
    for (int is_whole = 1; is_whole >= 0 && answer->finish == NULL; --is_whole)
        for (size_t i = 0; i < answer->stop_count; ++i) {
            const size_t whole = strlen(answer->stops[i]);
            for (size_t at = 0; at < answer->shown; ++at) {
                const size_t rest = length - at < whole ? length - at : whole;
                if ((rest == whole) != is_whole ||
                    memcmp(answer->text + at, answer->stops[i], rest) != 0)
                    continue;
                answer->shown = at;
                answer->finish = is_whole ? "stop" : NULL;
            }
        }
    if (answer->finish != NULL)
        answer->length = answer->shown;
}

void babble_step(babble_t *answer) {
    answer->finish = answer->said >= answer->max_tokens ? "length" : NULL;
    answer->shown = answer->length;
    if (answer->finish != NULL)
        return; /* "max_tokens" is 0 */
    if (answer->said > 0)
        answer->place = choose(&answer->random, follows, answer->place);
    const size_t begin = model.begin[answer->place];
    const size_t length = model.begin[answer->place + 1] - begin;
    answer->token = model.id[answer->place];
    ++answer->said;
    if (!answer->gives_tokens) {
        memcpy(answer->text + answer->length, model_text + begin, length);
        answer->length += length;
        if (answer->said > answer->min_tokens)
            look_for_stops(answer);
        else
            answer->shown = answer->length;
    }
    const int is_eos = !answer->ignore_eos && ends_sentence(answer->place) &&
                       next_random(&answer->random) % 3 == 0;
    if (answer->finish == NULL && answer->said > answer->min_tokens &&
        (is_eos || is_stop_id(answer)))
        answer->finish = "stop";
    if (answer->finish == NULL && answer->said == answer->max_tokens)
        answer->finish = "length";
    if (answer->finish != NULL)
        answer->shown = answer->length; /* the held-back text did not become a stop string */
}

dynamo_chunk_t babble_chunk(const babble_t *answer) {
    dynamo_chunk_t chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.struct_size = sizeof chunk;
    chunk.text = answer->text;
    chunk.text_length = answer->shown;
    chunk.token_ids = &answer->token;
    chunk.token_count = answer->said > 0 ? 1 : 0;
    chunk.finish_reason = answer->finish;
    return chunk;
}

void babble_taken(babble_t *answer) {
    if (answer->shown > 0)
        memmove(answer->text, answer->text + answer->shown, answer->length - answer->shown);
    answer->length -= answer->shown;
    answer->shown = 0;
}

dynamo_usage_t babble_usage(const babble_t *answer) {
    dynamo_usage_t usage;
    memset(&usage, 0, sizeof usage);
    usage.struct_size = sizeof usage;
    usage.prompt_tokens = answer->prompt_tokens;
    usage.completion_tokens = answer->said;
    return usage;
}

void babble_free(babble_t *answer) {
    for (size_t i = 0; i < answer->stop_count; ++i)
        free(answer->stops[i]);
    free(answer->stops);
    free(answer->stop_ids);
    free(answer->text);
}
