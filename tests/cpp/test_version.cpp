// SPDX-License-Identifier: Apache-2.0
// If header and library versions differ, the error names both.
#include "dynamo_llm.h"

#if defined(OTHER_ABI)
#undef DYNAMO_LLM_ABI_VERSION
#define DYNAMO_LLM_ABI_VERSION 999
#define BUILT_WITH "(ABI 999)"
#else
#undef DYNAMO_LLM_VERSION_STRING
#define DYNAMO_LLM_VERSION_STRING "998.997.996"
#define BUILT_WITH "dynamo_llm.h 998.997.996"
#endif
#include "support.hpp"

static void check_refusal(const Error &error) {
    CHECK_STATUS(error.status(), DYNAMO_ERROR_VERSION_MISMATCH);
    CHECK_CONTAINS(error.what(), BUILT_WITH);
    CHECK_CONTAINS(error.what(),
                   (std::string("library that is loaded is ") + dynamo_version_string()).c_str());
    CHECK_CONTAINS(error.what(), ("(ABI " + std::to_string(dynamo_abi_version()) + ")").c_str());
    CHECK(error.is_fatal());
}

static void no_runtime_is_made() {
    check_refusal(error_of([] { return Runtime::create("{\"engine\": \"echo\"}"); }));
    check_refusal(error_of([] { return Runtime::create(Config().engine("echo")); }));
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    check_refusal(error_of([] { return Runtime("{\"engine\": \"echo\"}"); }));
    check_refusal(error_of([] { return Runtime(); }));
#endif
}

int main() {
    BEGIN();
    RUN(no_runtime_is_made);
    return 0;
}
