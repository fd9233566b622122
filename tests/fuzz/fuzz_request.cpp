// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a request body and as a payload; "echo" answers those that are accepted.
#include "fuzz.hpp"

namespace {

void ask(dynamo_runtime_t *runtime, dynamo_request_t *request) {
    if (request == nullptr) {
        HOLDS(dynamo_last_status() < 0 && dynamo_last_status() != DYNAMO_ERROR_INTERNAL);
        HOLDS(fuzz::is_utf8(dynamo_last_error()) && dynamo_last_error()[0] != '\0');
        return;
    }
    HOLDS(dynamo_request_set_deadlines(request, 5000, 5000) == DYNAMO_OK);
    if (dynamo_request_send(runtime, request) == DYNAMO_OK) {
        fuzz::receive(request);
    } else {
        HOLDS(dynamo_last_status() < 0 && dynamo_last_status() != DYNAMO_ERROR_INTERNAL);
    }
    dynamo_request_destroy(request);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static dynamo_runtime_t *const runtime = dynamo_runtime_create(R"({"engine": "echo"})");
    HOLDS(runtime != nullptr);
    const std::string text(reinterpret_cast<const char *>(data), size);
    ask(runtime, dynamo_request_create(text.c_str()));
    ask(runtime, dynamo_request_create_data(DYNAMO_DATA_JSON, data, size));
    ask(runtime, dynamo_request_create_data(DYNAMO_DATA_BYTES, data, size));
    return 0;
}
