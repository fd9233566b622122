// SPDX-License-Identifier: Apache-2.0
#include "stream/chunk_objects.hpp"

#include <string>
#include <utility>

#include "base/error.hpp"

namespace dynamo {
namespace {

void check_payload(const dynamo_data_t &payload) {
    if (payload.bytes == nullptr && payload.length > 0) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "chunk.data->bytes is NULL");
    }
    if (payload.kind == DYNAMO_DATA_JSON) {
        json::parse({static_cast<const char *>(payload.bytes), payload.length}, "chunk's data");
    } else if (payload.kind != DYNAMO_DATA_BYTES) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      "chunk.data->kind is " + std::to_string(payload.kind) +
                          "; it must be DYNAMO_DATA_JSON or DYNAMO_DATA_BYTES");
    }
}

}  // namespace

ChunkObjects ChunkObjects::parse(const dynamo_chunk_t &chunk) {
    ChunkObjects objects;
    if (chunk.delta_json != nullptr) {
        objects.delta =
            json::parse_object(chunk.delta_json, "chunk's delta", DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    if (chunk.logprobs_json != nullptr) {
        objects.logprobs = json::parse_object(chunk.logprobs_json, "chunk's logprobs",
                                              DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    if (chunk.data != nullptr) {
        check_payload(*chunk.data);
    }
    return objects;
}

void ChunkObjects::move_to(Response &response, const dynamo_data_t *payload) {
    if (delta) {
        response.add_delta(std::move(*delta));
    }
    if (logprobs) {
        response.add_logprobs(std::move(*logprobs));
    }
    if (payload != nullptr) {
        response.add_payload(*payload);
    }
}

}  // namespace dynamo
