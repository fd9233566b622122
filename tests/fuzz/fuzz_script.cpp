// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a script of the engine "scripted".
#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    const std::string config =
        R"({"engine": "scripted", "stream": {"capacity": 64}, "options": {"script": )" + text +
        "}}";
    dynamo_runtime_t *const runtime = dynamo_runtime_create(config.c_str());
    if (runtime == nullptr) {
        HOLDS(dynamo_last_status() < 0 && dynamo_last_status() != DYNAMO_ERROR_INTERNAL);
        return 0;
    }
    for (const char *const body :
         {R"({"prompt": "x"})", R"({"messages": [{"role": "user", "content": "x"}], "n": 2})"}) {
        dynamo_request_t *const request = dynamo_request_create(body);
        HOLDS(request != nullptr);
        HOLDS(dynamo_request_set_deadlines(request, 10, 10) ==
              DYNAMO_OK);  // scripts may wait and stall
        if (dynamo_request_send(runtime, request) == DYNAMO_OK) {
            fuzz::receive(request);
        }
        dynamo_request_destroy(request);
    }
    // Stops the engine before returning: a thread that is about to stop it would be reported as a leak.
    const std::int32_t status = dynamo_runtime_shutdown(runtime, 0);
    HOLDS(status == DYNAMO_OK || status == DYNAMO_ERROR_DEADLINE_EXCEEDED);
    dynamo_runtime_destroy(runtime);
    return 0;
}
