// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as an engine's chunks: text split anywhere, ids, deltas, and log-probs. How the text is split must
// not change it.
//
// The input is a list of fields: one byte for the kind, one for the length, and that many bytes.
#include <cstring>
#include <vector>

#include "fuzz.hpp"

namespace {

struct Field {
    int kind;  // 0 to 3: text; 4: delta; 5: log-probs; 6: ids; 7: another choice
    std::string bytes;
};

std::vector<Field> fields_of(const std::uint8_t *data, std::size_t size) {
    std::vector<Field> fields;
    for (std::size_t at = 0; at + 2 <= size;) {
        const std::size_t length = std::min<std::size_t>(data[at + 1], size - at - 2);
        fields.push_back({data[at] & 7, {reinterpret_cast<const char *>(data) + at + 2, length}});
        at += 2 + length;
    }
    return fields;
}

dynamo_stream_t *last_stream = nullptr;  // set by generate(), which runs in the sending thread

const dynamo_engine_t &engine() {
    static const dynamo_engine_t functions = [] {
        dynamo_engine_t made{};
        made.struct_size = sizeof made;
        made.start = [](void *, const char *, void **) -> std::int32_t { return DYNAMO_OK; };
        made.generate = [](void *, dynamo_stream_t *stream, const char *,
                           const char *) -> std::int32_t {
            last_stream = stream;
            return DYNAMO_OK;
        };
        made.cancel = [](void *, dynamo_stream_t *) {};
        made.stop = [](void *) {};
        return made;
    }();
    return functions;
}

void push(const dynamo_chunk_t &chunk) {
    const std::int32_t status = dynamo_stream_push(last_stream, &chunk);
    HOLDS(status == DYNAMO_OK || status == DYNAMO_ERROR_INVALID_ARGUMENT ||
          status == DYNAMO_ERROR_INVALID_JSON);
}

// Pushes the fields and returns what a caller receives.
std::string played(dynamo_runtime_t *runtime, const char *body, const std::vector<Field> &fields) {
    dynamo_request_t *const request = dynamo_request_create(body);
    HOLDS(dynamo_request_send(runtime, request) == DYNAMO_OK);
    for (const Field &field : fields) {
        dynamo_chunk_t chunk{};
        chunk.struct_size = sizeof chunk;
        std::uint32_t ids[64] = {};
        if (field.kind < 4) {
            chunk.text = field.bytes.data();
            chunk.text_length = field.bytes.size();
        } else if (field.kind == 4) {
            chunk.delta_json = field.bytes.c_str();
        } else if (field.kind == 5) {
            chunk.logprobs_json = field.bytes.c_str();
        } else if (field.kind == 6) {
            chunk.token_count = std::min(field.bytes.size() / 4, std::size_t{64});
            std::memcpy(ids, field.bytes.data(), chunk.token_count * 4);
            chunk.token_ids = ids;
        } else {
            chunk.index = field.bytes.empty() ? 1 : static_cast<unsigned char>(field.bytes[0]);
            chunk.text = "other";
            chunk.text_length = 5;
            chunk.finish_reason = field.bytes.c_str();
        }
        push(chunk);
    }
    HOLDS(dynamo_stream_finish(last_stream, "stop", nullptr) == DYNAMO_OK);
    std::string text = fuzz::receive(request);
    dynamo_request_destroy(request);
    return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static dynamo_runtime_t *const runtime = [] {
        HOLDS(dynamo_engine_register("pushed", &engine(), nullptr, nullptr) == DYNAMO_OK);
        return dynamo_runtime_create(R"({"engine": "pushed", "stream": {"capacity": 100000}})");
    }();
    HOLDS(runtime != nullptr);
    const std::vector<Field> fields = fields_of(data, size);
    for (const char *const body : {R"({"messages": [{"role": "user", "content": "x"}], "n": 2})",
                                   R"({"prompt": "x", "stream": false})"}) {
        played(runtime, body, fields);
    }
    // Only the text fields: split as given, and in one piece.
    std::vector<Field> pieces;
    Field whole{0, {}};
    for (const Field &field : fields) {
        if (field.kind < 4) {
            pieces.push_back(field);
            whole.bytes += field.bytes;
        }
    }
    const char *const body = R"({"prompt": "x"})";
    HOLDS(played(runtime, body, pieces) == played(runtime, body, {whole}));
    return 0;
}
