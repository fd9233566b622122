// SPDX-License-Identifier: Apache-2.0
#include "services/tokenizer.hpp"

#include <memory>
#include <span>
#include <string>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "embed/python.hpp"
#include "engines/native.hpp"
#include "services/detokenizer.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

namespace {

std::span<const std::uint32_t> ids_of(const uint32_t *ids, std::size_t count) {
    return {count == 0 ? nullptr : capi::not_null(ids, "ids"), count};
}

bool flag(std::int32_t value, const char *name) {
    if (value != 0 && value != 1) {
        throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                      std::string(name) + " must be 0 or 1, not " + std::to_string(value));
    }
    return value == 1;
}

// Runs a body that returns a text, and copies the text into memory that the caller owns.
template <class Body>
char *text_of(std::size_t *length, Body &&body) {
    if (length != nullptr) {
        *length = 0;
    }
    return value_of<char *>(nullptr, [&] {
        const std::string text = body();
        char *const owned = capi::owned::text(text);
        if (length != nullptr) {
            *length = text.size();
        }
        return owned;
    });
}

}  // namespace

dynamo_tokenizer_t *dynamo_tokenizer_create(const char *config_json) {
    return created<Tokenizer>([&] {
        RuntimeConfig config = Tokenizer::parse_config(capi::text(config_json, "config_json"));
        engines::register_native();
        config.models.front().engine = embed::engine_from_python(config.models.front());
        return open_handle(std::make_shared<Tokenizer>(config));
    });
}

void dynamo_tokenizer_destroy(dynamo_tokenizer_t *tokenizer) {
    status_of([&] {
        if (tokenizer != nullptr && !close_handle<Tokenizer>(tokenizer)) {
            HandleRef<Tokenizer> says_why(tokenizer);
        }
        return DYNAMO_OK;
    });
}

char *dynamo_tokenizer_info(dynamo_tokenizer_t *tokenizer) {
    return value_of<char *>(
        nullptr, [&] { return capi::owned::text(HandleRef<Tokenizer>(tokenizer)->info()); });
}

int32_t dynamo_tokenizer_encode(dynamo_tokenizer_t *tokenizer, const char *text, size_t length,
                                int32_t add_special_tokens, uint32_t **ids, size_t *count) {
    if (ids != nullptr) {
        *ids = nullptr;
    }
    if (count != nullptr) {
        *count = 0;
    }
    return status_of([&] {
        HandleRef<Tokenizer> held(tokenizer);
        capi::not_null(ids, "ids");
        capi::not_null(count, "count");
        if (length > 0) {
            capi::not_null(text, "text");
        }
        const auto encoded =
            held->encode({text, length}, flag(add_special_tokens, "add_special_tokens"));
        *ids = capi::owned::numbers(encoded);
        *count = encoded.size();
        return DYNAMO_OK;
    });
}

char *dynamo_tokenizer_decode(dynamo_tokenizer_t *tokenizer, const uint32_t *ids, size_t count,
                              int32_t skip_special_tokens, size_t *length) {
    return text_of(length, [&] {
        HandleRef<Tokenizer> held(tokenizer);
        return held->decode(ids_of(ids, count), flag(skip_special_tokens, "skip_special_tokens"));
    });
}

char *dynamo_tokenizer_apply_template(dynamo_tokenizer_t *tokenizer, const char *chat_json,
                                      size_t *length) {
    return text_of(length, [&] {
        HandleRef<Tokenizer> held(tokenizer);
        return held->apply_template(capi::text(chat_json, "chat_json"));
    });
}

dynamo_detokenizer_t *dynamo_detokenizer_create(dynamo_tokenizer_t *tokenizer,
                                                int32_t skip_special_tokens) {
    return created<Detokenizer>([&] {
        HandleRef<Tokenizer> held(tokenizer);
        return open_handle(std::make_shared<Detokenizer>(
            held->shared_from_this(), flag(skip_special_tokens, "skip_special_tokens")));
    });
}

char *dynamo_detokenizer_add(dynamo_detokenizer_t *detokenizer, const uint32_t *ids, size_t count,
                             size_t *length) {
    return text_of(length, [&] {
        HandleRef<Detokenizer> held(detokenizer);
        return held->add(ids_of(ids, count));
    });
}

char *dynamo_detokenizer_finish(dynamo_detokenizer_t *detokenizer, size_t *length) {
    return text_of(length, [&] { return HandleRef<Detokenizer>(detokenizer)->finish(); });
}

void dynamo_detokenizer_destroy(dynamo_detokenizer_t *detokenizer) {
    status_of([&] {
        if (detokenizer != nullptr && !close_handle<Detokenizer>(detokenizer)) {
            HandleRef<Detokenizer> says_why(detokenizer);
        }
        return DYNAMO_OK;
    });
}
