/* Reads what the library hands to an engine: a request's body, a configuration. It has checked that they are JSON
 * objects, so this only finds its way through them. A larger engine has a JSON library for that. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The next member of an object, or element of an array. `at` begins at the '{' or '[' and is moved. 0 at the end.
 * The name, of an object's member, is cut at `size` bytes. *value is where the value begins. */
int json_next(const char **at, char *name, size_t size, const char **value);

/* A string's text, decoded; free() it. NULL if the value is no string, or without memory. */
char *json_text(const char *value);

/* A whole number that is not negative, or `otherwise` if the value is none. */
uint64_t json_number(const char *value, uint64_t otherwise);

int json_is_null(const char *value);
int json_is_true(const char *value);

#ifdef __cplusplus
}
#endif

#endif
