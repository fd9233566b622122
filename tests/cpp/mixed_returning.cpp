// SPDX-License-Identifier: Apache-2.0
#include "dynamo_llm.hpp"
#include "mixed.hpp"

#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
#error "this file is to be compiled without exceptions"
#endif

std::string ask_returning(dynamo_runtime_t *runtime, const std::string &prompt) {
    dynamo_llm::Runtime borrowed(runtime);
    std::string text;
    {
        const dynamo_llm::Result<dynamo_llm::Request> request =
            borrowed.send(dynamo_llm::Completion(prompt));
        if (!request) {
            text = request.error().status_name();
        } else {
            for (const auto &response : *request) {
                text += response.text();
            }
            if (const auto error = request->error()) {
                text = error->status_name();
            }
        }
    }
    (void)borrowed.release();
    return text;
}
