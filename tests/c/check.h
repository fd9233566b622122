/* SPDX-License-Identifier: Apache-2.0 */
/* Checks for the test programs. A failed check prints its location and the library's last error, and
 * ends the program. A watchdog ends a program that hangs. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "dynamo_llm.h"

/* UNDER_ADDRESS_SANITIZER, UNDER_THREAD_SANITIZER: gcc and clang report sanitizers in different ways. */
#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define UNDER_ADDRESS_SANITIZER
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define UNDER_THREAD_SANITIZER
#endif

#define CHECK(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "is false"))
#define CHECK_STATUS(expression, expected) \
    check_status(__FILE__, __LINE__, #expression, (expression), (expected))
#define CHECK_TEXT(text, expected) check_text(__FILE__, __LINE__, #text, (text), (expected))
#define CHECK_CONTAINS(text, part) check_contains(__FILE__, __LINE__, #text, (text), (part))

/* Waits until another thread makes the condition true; bounded only by the watchdog of BEGIN(). */
#define EVENTUALLY(condition)  \
    do {                       \
        while (!(condition)) { \
            usleep(1000);      \
        }                      \
    } while (0)

/* Watchdog for programs that hang; long enough for the slowest machine. */
#define BEGIN() alarm(300)
#define RUN(test) (fprintf(stderr, "  %s\n", #test), test())

/* The attribute lets compilers assume the checked condition after a CHECK. */
__attribute__((noreturn)) void check_failed(const char *file, int line, const char *what,
                                            const char *why);
void check_status(const char *file, int line, const char *what, int32_t status, int32_t expected);
void check_text(const char *file, int line, const char *what, const char *text,
                const char *expected);
void check_contains(const char *file, int line, const char *what, const char *text,
                    const char *part);

#endif
