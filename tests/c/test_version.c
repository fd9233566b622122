/* SPDX-License-Identifier: Apache-2.0 */
/* A program can check whether the loaded library is compatible with the header it was built with. */
#include <string.h>

#include "support.h"

static void the_header_and_the_library_agree(void) {
    CHECK(dynamo_abi_version() == DYNAMO_LLM_ABI_VERSION);
    CHECK_TEXT(dynamo_version_string(), DYNAMO_LLM_VERSION_STRING);
    CHECK_STATUS(DYNAMO_LLM_VERSION_CHECK(), DYNAMO_OK);
    char numbers[32];
    snprintf(numbers, sizeof numbers, "%d.%d.%d", DYNAMO_LLM_VERSION_MAJOR,
             DYNAMO_LLM_VERSION_MINOR, DYNAMO_LLM_VERSION_PATCH);
    CHECK_TEXT(numbers, DYNAMO_LLM_VERSION_STRING);
}

static void an_older_header_is_served(void) {
    CHECK_STATUS(dynamo_version_check(DYNAMO_LLM_ABI_VERSION, "0.9.99"), DYNAMO_OK);
}

static void check_mismatch(uint32_t abi, const char *version) {
    CHECK_STATUS(dynamo_version_check(abi, version), DYNAMO_ERROR_VERSION_MISMATCH);
    CHECK_CONTAINS(dynamo_last_error(), version);
    CHECK_CONTAINS(dynamo_last_error(), DYNAMO_LLM_VERSION_STRING);
    char number[32];
    snprintf(number, sizeof number, "(ABI %u)", (unsigned)abi);
    CHECK_CONTAINS(dynamo_last_error(), number);
}

static void a_newer_header_or_another_abi_is_not(void) {
    char version[64];
    const int major = DYNAMO_LLM_VERSION_MAJOR;
    const int minor = DYNAMO_LLM_VERSION_MINOR;
    const int patch = DYNAMO_LLM_VERSION_PATCH;
    snprintf(version, sizeof version, "%d.%d.%d", major + 1, 0, 0);
    check_mismatch(DYNAMO_LLM_ABI_VERSION, version);
    snprintf(version, sizeof version, "%d.%d.%d", major, minor + 1, 0);
    check_mismatch(DYNAMO_LLM_ABI_VERSION, version);
    snprintf(version, sizeof version, "%d.%d.%d", major, minor, patch + 1);
    check_mismatch(DYNAMO_LLM_ABI_VERSION, version);
    check_mismatch(DYNAMO_LLM_ABI_VERSION + 1, DYNAMO_LLM_VERSION_STRING);
    check_mismatch(0, DYNAMO_LLM_VERSION_STRING);
}

static void what_is_no_version_is_rejected(void) {
    static const char *const texts[] = {NULL, "", "1", "1.0", "1.0.x", "v1.0.0", "1.0.0-rc1"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; ++i) {
        CHECK_STATUS(dynamo_version_check(DYNAMO_LLM_ABI_VERSION, texts[i]),
                     DYNAMO_ERROR_INVALID_ARGUMENT);
    }
}

int main(void) {
    BEGIN();
    RUN(the_header_and_the_library_agree);
    RUN(an_older_header_is_served);
    RUN(a_newer_header_or_another_abi_is_not);
    RUN(what_is_no_version_is_rejected);
    return 0;
}
