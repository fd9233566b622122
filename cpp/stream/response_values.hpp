// SPDX-License-Identifier: Apache-2.0
// Log-probs and embeddings of a response, read from the JSON that the engine pushed.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace dynamo {

struct Logprob {
    std::string text;  // "" if the engine gave none
    double value = std::numeric_limits<double>::quiet_NaN();
    std::int64_t token_id = -1;  // -1 if it is unknown
    std::vector<Logprob> alternatives;
};

struct ResponseValues {
    std::vector<Logprob> logprobs;
    std::vector<std::vector<float>> embeddings;
};

// Reads the "logprobs" of a choice: those of a chat, of a completion, or of a token-level engine without a pipeline.
// What is malformed is left out. token_ids: those of the answer, used if there is one for each log-prob.
std::vector<Logprob> read_logprobs(const json::Json &logprobs,
                                   const std::vector<std::uint32_t> &token_ids);

// Reads the vectors of an answer to an embedding body, in the order of their "index".
std::vector<std::vector<float>> read_embeddings(const json::Json &answer);

}  // namespace dynamo
