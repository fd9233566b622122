/* SPDX-License-Identifier: Apache-2.0 */
/* Checks for the test programs. A check that fails says where, shows the library's last error and
 * ends the program; so does a program that hangs. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "dynamo_llm.h"

#define CHECK(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "is false"))
#define CHECK_STATUS(expression, expected) \
    check_status(__FILE__, __LINE__, #expression, (expression), (expected))
#define CHECK_TEXT(text, expected) check_text(__FILE__, __LINE__, #text, (text), (expected))
#define CHECK_CONTAINS(text, part) check_contains(__FILE__, __LINE__, #text, (text), (part))

/* Waits for what another thread does, for as long as the program may run at all. */
#define EVENTUALLY(condition)  \
    do {                       \
        while (!(condition)) { \
            usleep(1000);      \
        }                      \
    } while (0)

/* The time-out is for programs that hang, however slow the machine is. */
#define BEGIN() alarm(300)
#define RUN(test) (fprintf(stderr, "  %s\n", #test), test())

void check_failed(const char *file, int line, const char *what, const char *why);
void check_status(const char *file, int line, const char *what, int32_t status, int32_t expected);
void check_text(const char *file, int line, const char *what, const char *text,
                const char *expected);
void check_contains(const char *file, int line, const char *what, const char *text,
                    const char *part);

#endif
