#include "json.h"

#include <stdlib.h>
#include <string.h>

static const char *skip_space(const char *at) {
    return at + strspn(at, " \t\r\n");
}

/* Skips a string: from its opening quote to after its closing quote. */
static const char *skip_string(const char *at) {
    for (++at; *at != '"'; ++at)
        at += *at == '\\';
    return at + 1;
}

static const char *skip_value(const char *at) {
    if (*at == '"')
        return skip_string(at);
    if (*at != '{' && *at != '[')
        return at + strcspn(at, ",]} \t\r\n");
    int depth = 0;
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        ++at;
    } while (depth > 0);
    return at;
}

static unsigned hexadecimal(const char *at) {
    char digits[5] = {at[0], at[1], at[2], at[3], '\0'};
    return (unsigned)strtoul(digits, NULL, 16);
}

static char *put_utf8(char *out, unsigned code) {
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

char *json_text(const char *value) {
    if (*value != '"')
        return NULL;
    char *text = malloc((size_t)(skip_string(value) - value)); /* decoding never lengthens it */
    if (text == NULL)
        return NULL;
    char *out = text;
    for (const char *at = value + 1; *at != '"'; ++at) {
        if (*at != '\\') {
            *out++ = *at;
            continue;
        }
        static const char letters[] = "bfnrt", bytes[] = "\b\f\n\r\t";
        const char *letter = strchr(letters, *++at);
        if (*at != 'u') {
            *out++ = letter != NULL ? bytes[letter - letters] : *at;
            continue;
        }
        unsigned code = hexadecimal(at + 1);
        at += 4;
        if (code >= 0xD800 && code < 0xDC00) { /* first half of a surrogate pair */
            code = 0x10000 + ((code & 0x3FF) << 10) + (hexadecimal(at + 3) & 0x3FF);
            at += 6;
        }
        out = put_utf8(out, code);
    }
    *out = '\0';
    return text;
}

int json_next(const char **at, char *name, size_t size, const char **value) {
    const char *here = skip_space(skip_space(*at) + 1); /* after the bracket or comma */
    if (*here == '}' || *here == ']')
        return 0;
    if (name != NULL) {
        char *text = json_text(here);
        strncpy(name, text == NULL ? "" : text, size - 1);
        name[size - 1] = '\0';
        free(text);
        here = skip_space(skip_space(skip_string(here)) + 1); /* after the colon */
    }
    *value = here;
    const char *end = skip_value(here);
    here = skip_space(end);
    *at = *here == ',' ? here : end - 1; /* the next call continues after it */
    return 1;
}

uint64_t json_number(const char *value, uint64_t otherwise) {
    return *value >= '0' && *value <= '9' ? strtoull(value, NULL, 10) : otherwise;
}

int json_is_null(const char *value) {
    return *value == 'n';
}

int json_is_true(const char *value) {
    return *value == 't';
}
