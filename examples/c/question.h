/* Turns a question into the JSON body of a chat. */
#ifndef QUESTION_H
#define QUESTION_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The caller owns the result and must free() it. Ends the program if memory allocation fails. */
static char *chat_body(const char *question) {
    static const char before[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"";
    static const char after[] = "\"}]}";
    /* A byte takes up to six bytes in JSON. */
    char *body = malloc(sizeof before + 6 * strlen(question) + sizeof after);
    if (body == NULL)
        abort();
    char *out = body + sprintf(body, "%s", before);
    for (; *question != '\0'; ++question) {
        const unsigned char c = (unsigned char)*question;
        out += sprintf(out, c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
    }
    strcpy(out, after);
    return body;
}

#endif
