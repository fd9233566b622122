/* Reads the JSON that the library passes to an engine: request bodies and configurations. The library has checked that
 * they are valid JSON objects, so these functions do not validate. Larger engines use a JSON library. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Advances to the next member of an object or element of an array. Initially `at` points to the '{' or '['; each call
 * moves it. The name of an object's member is truncated to `size` bytes. Sets *value to the start of the value. Returns
 * 0 at the end. */
int json_next(const char **at, char *name, size_t size, const char **value);

/* Returns the decoded text of a string; free() it. Returns NULL if the value is not a string, or memory is exhausted. */
char *json_text(const char *value);

/* Returns a non-negative integer, or `otherwise` if the value is not one. */
uint64_t json_number(const char *value, uint64_t otherwise);

int json_is_null(const char *value);
int json_is_true(const char *value);

#ifdef __cplusplus
}
#endif

#endif
