// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "body.hpp"
#include "config.hpp"
#include "response.hpp"

DYNAMO_LLM_BEGIN

/** Converts a stream of token ids into a stream of text. Tokenizer::detokenizer() creates it. It keeps its tokenizer
 * alive. */
class Detokenizer : public Owner<dynamo_detokenizer_t, dynamo_detokenizer_destroy> {
  public:
    using Owner::Owner;
    Detokenizer() noexcept : Owner(nullptr) {}

    /** Adds any number of token ids, and returns the text that they add, "" if there is none yet. It never splits a
     * code point. Waits until it is done. Errors: those of dynamo_detokenizer_add(); then none of the ids was added. */
    Returned<std::string> add(TokenIds ids) const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_detokenizer_add(get(), ids.data(), ids.size(), &length),
                                  &length);
    }
    /** As above. */
    Returned<std::string> add(const std::vector<std::uint32_t> &ids) const {
        return add(TokenIds(ids.data(), ids.size()));
    }
    /** As above. */
    Returned<std::string> add(std::initializer_list<std::uint32_t> ids) const {
        return add(TokenIds(ids.begin(), ids.size()));
    }
    /** As above, for one token. */
    Returned<std::string> add(std::uint32_t id) const { return add(TokenIds(&id, 1)); }
    /** Ends the text, and returns what was held back. Another text may then begin. Waits until it is done. Errors:
     * those of dynamo_detokenizer_finish(). */
    Returned<std::string> finish() const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_detokenizer_finish(get(), &length), &length);
    }
};

/** A model's tokenizer and chat template, without the model. Its results are copied into strings and vectors of C++. */
class Tokenizer : public Owner<dynamo_tokenizer_t, dynamo_tokenizer_destroy> {
  public:
    using Owner::Owner;

    /** Loads the tokenizer of a model, and waits until it is loaded; "{}" is that of the demo model. Errors: those of
     * dynamo_tokenizer_create(). */
    [[nodiscard]] static Returned<Tokenizer> create(const std::string &config_json = "{}") {
        return detail::create<Tokenizer>(dynamo_tokenizer_create, config_json);
    }
    /** As above, from a Config: `Config().model("path")`. */
    [[nodiscard]] static Returned<Tokenizer> create(const Config &config) {
        return create(config.json());
    }
#if !defined(DYNAMO_LLM_NO_EXCEPTIONS)
    Tokenizer() : Tokenizer(create()) {}
    /** Same as create(). */
    explicit Tokenizer(const std::string &config_json) : Tokenizer(create(config_json)) {}
    /** Same as create(). */
    explicit Tokenizer(const Config &config) : Tokenizer(create(config)) {}
#endif

    /** Converts a text into token ids. For a prompt of apply_template(), do not add special tokens. Waits until it is
     * done. Errors: those of dynamo_tokenizer_encode(). */
    Returned<std::vector<std::uint32_t>> encode(std::string_view text,
                                                bool add_special_tokens = true) const {
        std::uint32_t *ids = nullptr;
        std::size_t count = 0;
        if (dynamo_tokenizer_encode(get(), text.data(), text.size(), add_special_tokens ? 1 : 0,
                                    &ids, &count) != DYNAMO_OK) {
            return detail::failed<std::vector<std::uint32_t>>(Error::last());
        }
        const detail::Freed<std::uint32_t> owned(ids);
        return std::vector<std::uint32_t>(ids, ids + count);
    }
    /** Converts token ids into a text. Waits until it is done. Errors: those of dynamo_tokenizer_decode(). */
    Returned<std::string> decode(TokenIds ids, bool skip_special_tokens = true) const {
        std::size_t length = 0;
        return detail::owned_text(dynamo_tokenizer_decode(get(), ids.data(), ids.size(),
                                                          skip_special_tokens ? 1 : 0, &length),
                                  &length);
    }
    /** As above. */
    Returned<std::string> decode(const std::vector<std::uint32_t> &ids,
                                 bool skip_special_tokens = true) const {
        return decode(TokenIds(ids.data(), ids.size()), skip_special_tokens);
    }
    /** As above. */
    Returned<std::string> decode(std::initializer_list<std::uint32_t> ids,
                                 bool skip_special_tokens = true) const {
        return decode(TokenIds(ids.begin(), ids.size()), skip_special_tokens);
    }
    /** Renders a chat into a prompt with the model's chat template. Waits until it is done. Errors: those of
     * dynamo_tokenizer_apply_template(). */
    Returned<std::string> apply_template(const std::string &chat_json) const {
        return detail::checked<std::string>(detail::check_text(chat_json, "chat_json"), [&] {
            std::size_t length = 0;
            return detail::owned_text(
                dynamo_tokenizer_apply_template(get(), chat_json.c_str(), &length), &length);
        });
    }
    /** As above, from a Chat. */
    Returned<std::string> apply_template(const Chat &chat) const {
        return apply_template(chat.json());
    }
    /** Returns the properties as JSON, see dynamo_tokenizer_info(), also for errors. */
    Returned<std::string> info() const { return detail::owned_text(dynamo_tokenizer_info(get())); }

    /** Creates a detokenizer, for a text that arrives token by token. Errors: those of dynamo_detokenizer_create(). */
    [[nodiscard]] Returned<Detokenizer> detokenizer(bool skip_special_tokens = true) const {
        return detail::owned<Detokenizer>(
            dynamo_detokenizer_create(get(), skip_special_tokens ? 1 : 0));
    }
};

DYNAMO_LLM_END
