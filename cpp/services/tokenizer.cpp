// SPDX-License-Identifier: Apache-2.0
// The C functions of tokenizers and detokenizers. Encoding and templates are commands to runtime/engines/tokenizer.py of
// the Python package; decoding needs no Python.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.hpp"
#include "dynamo_llm.h"
#include "embed/python.hpp"
#include "services/handle_functions.hpp"
#include "services/service.hpp"

namespace dynamo {
namespace {

using json::Json;
using Ids = std::span<const std::uint32_t>;

class Tokenizer : public Service, public std::enable_shared_from_this<Tokenizer> {
  public:
    explicit Tokenizer(const char *config_json)
        : Service("tokenizer", "dynamo_llm.runtime.engines.tokenizer:TokenizerEngine", config_json),
          description_(description()) {
        largest_id_ = description_.at("largest_token_id").get<std::uint32_t>();
        vocabulary_ = description_.at("vocabulary").get<std::uint64_t>();
        description_.erase("vocabulary");
    }

    const json::OrderedJson &info() const noexcept { return description_; }

    // Sends a command as the body of a request to an engine that answers with text and token IDs. Requests one whole
    // answer, so that the stream's capacity does not limit it.
    std::shared_ptr<Response> ask(std::string command) const {
        Body body;
        body.text = std::move(command);
        body.kind = BodyKind::completion;
        body.stream = false;
        return Service::ask(std::move(body));
    }

    // Returns a caller's token IDs. Throws Failure with INVALID_ARGUMENT for one outside the vocabulary.
    Ids ids_of(const std::uint32_t *given, std::size_t count) const {
        const Ids ids = capi::array(given, count, "ids");
        for (std::size_t i = 0; i < ids.size(); ++i) {
            if (ids[i] > largest_id_) {
                reject_argument("ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                                ", but the tokenizer's token ids are from 0 to " +
                                std::to_string(largest_id_));
            }
        }
        return ids;
    }

    // The number of the vocabulary in the module.
    std::uint64_t vocabulary() const noexcept { return vocabulary_; }

  private:
    json::OrderedJson description_;
    std::uint32_t largest_id_ = 0;
    std::uint64_t vocabulary_ = 0;
};

// Decodes one text.
class Decoding {
  public:
    Decoding(const Tokenizer &tokenizer, bool skips_special_tokens)
        : state_(embed::detokenizers().open(tokenizer.vocabulary(), skips_special_tokens ? 1 : 0)) {
        if (state_ == nullptr) {
            throw std::bad_alloc();
        }
    }
    ~Decoding() { embed::detokenizers().close(state_); }
    Decoding(const Decoding &) = delete;
    Decoding &operator=(const Decoding &) = delete;

    std::string feed(Ids ids, bool is_last) {
        const char *text = nullptr;
        std::size_t length = 0;
        const std::int32_t status = embed::detokenizers().feed(state_, ids.data(), ids.size(),
                                                               is_last ? 1 : 0, &text, &length);
        if (status == DYNAMO_ERROR_OUT_OF_MEMORY) {
            throw std::bad_alloc();
        }
        if (status < 0) {
            throw Failure(status, "the library tokenizers failed to decode the token ids");
        }
        return {text, length};
    }

  private:
    void *const state_;
};

class Detokenizer {
  public:
    Detokenizer(std::shared_ptr<Tokenizer> its_tokenizer, bool skips_special_tokens)
        : tokenizer(std::move(its_tokenizer)), skips_special_tokens_(skips_special_tokens) {}

    std::string add(Ids ids) {
        const std::lock_guard lock(mutex_);
        if (decoding_ == nullptr) {
            decoding_ = std::make_unique<Decoding>(*tokenizer, skips_special_tokens_);
        }
        try {
            return decoding_->feed(ids, false);
        } catch (...) {
            decoding_ = nullptr;
            throw;
        }
    }

    // Ends the text. The next one begins anew.
    std::string finish() {
        const std::lock_guard lock(mutex_);
        const std::unique_ptr<Decoding> ended = std::exchange(decoding_, nullptr);
        return ended == nullptr ? std::string() : ended->feed({}, true);
    }

    const std::shared_ptr<Tokenizer> tokenizer;

  private:
    const bool skips_special_tokens_;

    std::mutex mutex_;                    // calls are serialized
    std::unique_ptr<Decoding> decoding_;  // nullptr at the beginning of a text
};

bool flag(std::int32_t value, const char *name) {
    if (value != 0 && value != 1) {
        reject_argument(std::string(name) + " must be 0 or 1, not " + std::to_string(value));
    }
    return value == 1;
}

}  // namespace

template <>
struct HandleTraits<Tokenizer> {
    using CType = dynamo_tokenizer_t;
    static constexpr HandleKind kind = HandleKind::tokenizer;
};

template <>
struct HandleTraits<Detokenizer> {
    using CType = dynamo_detokenizer_t;
    static constexpr HandleKind kind = HandleKind::detokenizer;
};

}  // namespace dynamo

using namespace dynamo;

dynamo_tokenizer_t *dynamo_tokenizer_create(const char *config_json) {
    return services::create<Tokenizer>(config_json);
}

void dynamo_tokenizer_destroy(dynamo_tokenizer_t *tokenizer) {
    services::destroy<Tokenizer>(tokenizer);
}

char *dynamo_tokenizer_info(dynamo_tokenizer_t *tokenizer) {
    return services::text_of([&] { return json::dump(HandleRef<Tokenizer>(tokenizer)->info()); });
}

int32_t dynamo_tokenizer_encode(dynamo_tokenizer_t *tokenizer, const char *text, size_t length,
                                int32_t add_special_tokens, uint32_t **ids, size_t *count) {
    if (ids != nullptr) {
        *ids = nullptr;
    }
    if (count != nullptr) {
        *count = 0;
    }
    return capi::status_of([&] {
        const HandleRef<Tokenizer> held(tokenizer);
        capi::not_null(ids, "ids");
        capi::not_null(count, "count");
        const auto given = capi::array(text, length, "text");
        const bool adds = flag(add_special_tokens, "add_special_tokens");
        const std::string_view all(given.data(), given.size());
        if (const std::size_t at = invalid_utf8_at(all); at != all.npos) {
            reject_argument("text is not UTF-8: its byte " + std::to_string(at) +
                            " does not fit in");
        }
        const auto answer =
            held->ask(json::dump(Json{{"encode", all}, {"add_special_tokens", adds}}));
        const std::vector<std::uint32_t> encoded = answer->token_ids.to_vector();
        *ids = capi::owned::numbers(encoded);
        *count = encoded.size();
        return DYNAMO_OK;
    });
}

char *dynamo_tokenizer_decode(dynamo_tokenizer_t *tokenizer, const uint32_t *ids, size_t count,
                              int32_t skip_special_tokens, size_t *length) {
    const auto decode = [&] {
        const HandleRef<Tokenizer> held(tokenizer);
        const bool skips = flag(skip_special_tokens, "skip_special_tokens");
        return Decoding(*held, skips).feed(held->ids_of(ids, count), true);
    };
    return services::text_of(decode, length);
}

char *dynamo_tokenizer_apply_template(dynamo_tokenizer_t *tokenizer, const char *chat_json,
                                      size_t *length) {
    const auto render = [&] {
        const HandleRef<Tokenizer> held(tokenizer);
        const Body chat = Body::parse(capi::text(chat_json, "chat_json"));
        if (chat.kind != BodyKind::chat) {
            throw Failure(DYNAMO_ERROR_INVALID_REQUEST,
                          "a chat template takes the body of a chat, with \"messages\"");
        }
        // Inserts the text unparsed: a chat template may print objects, so the order of their keys must be kept.
        return std::string(held->ask("{\"chat\": " + chat.text + "}")->text.view());
    };
    return services::text_of(render, length);
}

dynamo_detokenizer_t *dynamo_detokenizer_create(dynamo_tokenizer_t *tokenizer,
                                                int32_t skip_special_tokens) {
    return capi::created<Detokenizer>([&] {
        const HandleRef<Tokenizer> held(tokenizer);
        return open_handle(std::make_shared<Detokenizer>(
            held->shared_from_this(), flag(skip_special_tokens, "skip_special_tokens")));
    });
}

char *dynamo_detokenizer_add(dynamo_detokenizer_t *detokenizer, const uint32_t *ids, size_t count,
                             size_t *length) {
    const auto add = [&] {
        const HandleRef<Detokenizer> held(detokenizer);
        const Ids some = held->tokenizer->ids_of(ids, count);
        return some.empty() ? std::string() : held->add(some);
    };
    return services::text_of(add, length);
}

char *dynamo_detokenizer_finish(dynamo_detokenizer_t *detokenizer, size_t *length) {
    return services::text_of([&] { return HandleRef<Detokenizer>(detokenizer)->finish(); }, length);
}

void dynamo_detokenizer_destroy(dynamo_detokenizer_t *detokenizer) {
    services::destroy<Detokenizer>(detokenizer);
}
