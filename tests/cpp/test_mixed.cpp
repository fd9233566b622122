// SPDX-License-Identifier: Apache-2.0
// Files with and without exceptions meet in one program, and neither gets the other's functions.
#include "mixed.hpp"
#include "support.hpp"

#if defined(DYNAMO_LLM_NO_EXCEPTIONS)
#error "this file is to be compiled with exceptions"
#endif

std::string ask_throwing(dynamo_runtime_t *runtime, const std::string &prompt) {
    Runtime borrowed(runtime);
    std::string text;
    try {
        text = whole_text(borrowed.send(Completion(prompt)));
    } catch (const Error &error) {
        text = error.status_name();
    }
    (void)borrowed.release();
    return text;
}

static void both_work() {
    const Runtime runtime = start_cpp("scripted");
    for (const auto ask_one : {ask_throwing, ask_returning}) {
        CHECK(ask_one(runtime.get(), "[{\"text\": \"a\"}, {\"text\": \"b\"}]") == "ab");
        CHECK(ask_one(runtime.get(), "[{\"error\": {\"status\": \"UNAVAILABLE\"}}]") ==
              "DYNAMO_ERROR_UNAVAILABLE");
        CHECK(ask_one(runtime.get(), "[{\"refuse\": {\"status\": \"OVERLOADED\"}}]") ==
              "DYNAMO_ERROR_OVERLOADED");
        CHECK(ask_one(runtime.get(), "{") == "DYNAMO_ERROR_INVALID_REQUEST");
    }
}

int main() {
    BEGIN();
    RUN(both_work);
    return 0;
}
