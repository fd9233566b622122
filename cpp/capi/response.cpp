// SPDX-License-Identifier: Apache-2.0
#include "stream/response.hpp"

#include <string>
#include <string_view>
#include <vector>

#include "base/structs.hpp"
#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/timing.hpp"

using namespace dynamo;
using capi::status_of;
using capi::value_of;

namespace {

// Returns an element of what a response has. Throws Failure with INVALID_ARGUMENT.
template <class Element>
const Element &at(const std::vector<Element> *list, std::size_t index, const char *name,
                  const char *what) {
    const std::size_t count = list == nullptr ? 0 : list->size();
    if (index >= count) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, std::string(name) + " is " +
                                                         std::to_string(index) + ", but " + what +
                                                         ": " + std::to_string(count));
    }
    return (*list)[index];
}

void fill(dynamo_logprob_t *wanted, const Logprob &found) {
    dynamo_logprob_t filled{};
    filled.text = found.text.c_str();
    filled.text_length = found.text.size();
    filled.logprob = found.value;
    filled.token_id = found.token_id;
    filled.alternative_count = found.alternatives.size();
    structs::write(wanted, filled, "logprob");
}

const Logprob &logprob_at(const Response &response, std::size_t token) {
    return at(&response.values().logprobs, token, "token", "log-probs of the response");
}

}  // namespace

const char *dynamo_response_text(const dynamo_response_t *response, size_t *length) {
    if (length != nullptr) {
        *length = 0;
    }
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Response> held(response);
        if (length != nullptr) {
            *length = held->text.size();
        }
        return held->text.c_str();
    });
}

const uint32_t *dynamo_response_token_ids(const dynamo_response_t *response, size_t *count) {
    if (count != nullptr) {
        *count = 0;
    }
    return value_of<const uint32_t *>(nullptr, [&]() -> const uint32_t * {
        HandleRef<Response> held(response);
        if (count != nullptr) {
            *count = held->token_ids.size();
        }
        return held->token_ids.empty() ? nullptr : held->token_ids.data();
    });
}

uint32_t dynamo_response_index(const dynamo_response_t *response) {
    return value_of<uint32_t>(0, [&] { return HandleRef<Response>(response)->index; });
}

const char *dynamo_response_finish_reason(const dynamo_response_t *response) {
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Response> held(response);
        return held->finish_reason.empty() ? nullptr : held->finish_reason.c_str();
    });
}

int32_t dynamo_response_usage(const dynamo_response_t *response, dynamo_usage_t *usage) {
    return status_of([&]() -> std::int32_t {
        HandleRef<Response> held(response);
        capi::fill(usage, held->usage ? *held->usage : Usage());
        return held->usage ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

int32_t dynamo_response_timing(const dynamo_response_t *response, dynamo_timing_t *timing) {
    return status_of([&]() -> std::int32_t {
        HandleRef<Response> held(response);
        capi::fill(timing, held->timing ? *held->timing : Timing());
        return held->timing ? DYNAMO_OK : DYNAMO_PENDING;
    });
}

const char *dynamo_response_json(dynamo_response_t *response) {
    return value_of<const char *>(nullptr,
                                  [&] { return HandleRef<Response>(response)->json().c_str(); });
}

size_t dynamo_response_item_count(const dynamo_response_t *response) {
    return value_of<std::size_t>(0, [&] {
        HandleRef<Response> held(response);
        return held->payloads == nullptr ? std::size_t{0} : held->payloads->size();
    });
}

int32_t dynamo_response_item(const dynamo_response_t *response, size_t index, dynamo_data_t *item) {
    return status_of([&] {
        HandleRef<Response> held(response);
        *capi::not_null(item, "item") = {nullptr, 0, 0};
        const std::size_t count = held->payloads == nullptr ? 0 : held->payloads->size();
        if (index >= count) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, "index is " + std::to_string(index) +
                                                             ", but the response has " +
                                                             std::to_string(count) + " item(s)");
        }
        const Payload &found = (*held->payloads)[index];
        *item = {found.bytes.c_str(), found.bytes.size(), found.kind};
        return DYNAMO_OK;
    });
}

size_t dynamo_response_tool_call_count(const dynamo_response_t *response) {
    return value_of<std::size_t>(0, [&] {
        HandleRef<Response> held(response);
        return held->tool_calls == nullptr ? std::size_t{0} : held->tool_calls->size();
    });
}

int32_t dynamo_response_tool_call(const dynamo_response_t *response, size_t index,
                                  dynamo_tool_call_t *call) {
    structs::clear(call);  // even in a forked child, where the body below does not run
    return status_of([&] {
        HandleRef<Response> held(response);
        structs::size_of(call, "call");
        const delta::ToolCall &found =
            at(held->tool_calls.get(), index, "index", "tool calls of the response");
        dynamo_tool_call_t filled{};
        filled.id = found.id.c_str();
        filled.name = found.name.c_str();
        filled.arguments = found.arguments.c_str();
        structs::write(call, filled, "call");
        return DYNAMO_OK;
    });
}

const char *dynamo_response_reasoning(const dynamo_response_t *response, size_t *length) {
    if (length != nullptr) {
        *length = 0;
    }
    return value_of<const char *>(nullptr, [&] {
        HandleRef<Response> held(response);
        const std::string_view text = held->reasoning();
        if (length != nullptr) {
            *length = text.size();
        }
        return text.data();
    });
}

size_t dynamo_response_logprob_count(const dynamo_response_t *response) {
    return value_of<std::size_t>(
        0, [&] { return HandleRef<Response>(response)->values().logprobs.size(); });
}

int32_t dynamo_response_logprob(const dynamo_response_t *response, size_t token,
                                dynamo_logprob_t *logprob) {
    structs::clear(logprob);
    return status_of([&] {
        HandleRef<Response> held(response);
        structs::size_of(logprob, "logprob");
        fill(logprob, logprob_at(*held, token));
        return DYNAMO_OK;
    });
}

int32_t dynamo_response_alternative(const dynamo_response_t *response, size_t token,
                                    size_t alternative, dynamo_logprob_t *logprob) {
    structs::clear(logprob);
    return status_of([&] {
        HandleRef<Response> held(response);
        structs::size_of(logprob, "logprob");
        fill(logprob, at(&logprob_at(*held, token).alternatives, alternative, "alternative",
                         "alternatives of the token"));
        return DYNAMO_OK;
    });
}

size_t dynamo_response_embedding_count(const dynamo_response_t *response) {
    return value_of<std::size_t>(
        0, [&] { return HandleRef<Response>(response)->values().embeddings.size(); });
}

const float *dynamo_response_embedding(const dynamo_response_t *response, size_t index,
                                       size_t *dimensions) {
    if (dimensions != nullptr) {
        *dimensions = 0;
    }
    return value_of<const float *>(nullptr, [&] {
        HandleRef<Response> held(response);
        const std::vector<float> &vector =
            at(&held->values().embeddings, index, "index", "vectors of the response");
        if (dimensions != nullptr) {
            *dimensions = vector.size();
        }
        return vector.data();
    });
}
