// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a configuration.
#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    dynamo_runtime_t *const runtime = dynamo_runtime_create(text.c_str());
    if (runtime == nullptr) {
        const std::int32_t status = dynamo_last_status();
        HOLDS(status < 0 && status != DYNAMO_ERROR_INTERNAL);
        HOLDS(fuzz::is_utf8(dynamo_last_error()) && dynamo_last_error()[0] != '\0');
        HOLDS(fuzz::is_utf8(dynamo_last_error_json()));
    } else {
        for (const auto ask :
             {dynamo_runtime_models, dynamo_runtime_statistics, dynamo_runtime_metrics}) {
            char *const said = ask(runtime);
            HOLDS(said != nullptr && fuzz::is_utf8(said));
            dynamo_free(said);
        }
    }
    dynamo_runtime_destroy(runtime);
    return 0;
}
