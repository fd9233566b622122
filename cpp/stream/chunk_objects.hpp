// SPDX-License-Identifier: Apache-2.0
// What a chunk carries besides text and token ids: JSON objects and a payload.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "base/json.hpp"
#include "dynamo_llm/engine.h"
#include "stream/response.hpp"

namespace dynamo {

struct ChunkObjects {
    std::optional<json::Json> delta;
    std::optional<json::Json> logprobs;

    // Throws Failure with INVALID_JSON or INVALID_ARGUMENT.
    static ChunkObjects parse(const dynamo_chunk_t &chunk);

    bool is_empty() const { return !delta && !logprobs; }
    // payload: may be nullptr.
    void move_to(Response &response, const dynamo_data_t *payload);
};

}  // namespace dynamo
