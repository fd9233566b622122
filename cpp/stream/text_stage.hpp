// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/error.hpp"
#include "dynamo_llm/engine.h"
#include "stream/text_stage.h"

namespace dynamo {

// Owns a stage.
class TextStage {
  public:
    explicit TextStage(const dynamo_text_stage &stage) noexcept : stage_(stage) {}
    ~TextStage() { stage_.release(stage_.state); }
    TextStage(const TextStage &) = delete;
    TextStage &operator=(const TextStage &) = delete;

    // Throws Failure with what is wrong with the input, or std::bad_alloc.
    dynamo_stage_output feed(const dynamo_stage_input &input) {
        dynamo_stage_output output{};
        const std::int32_t status = stage_.feed(stage_.state, &input, &output);
        if (status == DYNAMO_ERROR_OUT_OF_MEMORY) {
            throw std::bad_alloc();
        }
        if (status < 0) {
            throw Failure(status, output.error != nullptr ? output.error : "the stage failed");
        }
        return output;
    }

  private:
    dynamo_text_stage stage_;
};

}  // namespace dynamo
