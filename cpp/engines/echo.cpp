// SPDX-License-Identifier: Apache-2.0
// "echo": streams the prompt back, one word per token, and echoes raw payloads unchanged. It is deterministic and
// needs no Python: use it in tests, to try out an integration, and as the baseline of benchmarks.
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/schema.hpp"
#include "engines/native.hpp"
#include "engines/player.hpp"
#include "engines/prompt.hpp"

namespace dynamo::engines {
namespace {

constexpr std::array option_keys = {
    Key{"tokens_per_second", Type::number,
        "Pace of each request; 0 (default) is as fast as possible.", 0, 1e9},
    Key{"chunk_tokens", Type::integer, "Tokens in a chunk; default 1.", 1, 1e6},
    Key{"repeat", Type::integer, "How often the prompt is repeated; default 1.", 1, 1e9},
};

// Predicates for the keys below that would change the answer of an engine with a model: each one checks whether a
// value requests anything.
bool is_set(const json::Json &value) {
    return !(value.is_null() || value == false || value.empty() || json::is_text(value, ""));
}
bool is_any(const json::Json &value) {
    return !value.is_null();
}
bool is_over_zero(const json::Json &value) {
    return value.is_number() && value > 0;
}
bool is_over_one(const json::Json &value) {
    return value.is_number() && value > 1;
}
bool is_choice_of_tools(const json::Json &value) {
    return is_set(value) && !json::is_text(value, "none") && !json::is_text(value, "auto");
}
bool is_format(const json::Json &value) {
    return value.is_object() && !json::is_text(value.value("type", json::Json("text")), "text");
}
bool is_modality(const json::Json &value) {
    return is_set(value) && value != json::Json::array({"text"});
}

struct Refusal {
    const char *key;
    bool (*asks)(const json::Json &value);
};

constexpr Refusal refusals[] = {
    {"adapter", is_set},
    {"allowed_token_ids", is_set},
    {"audio", is_set},
    {"bad_words", is_set},
    {"best_of", is_over_one},
    {"chat_template", is_set},
    {"chat_template_kwargs", is_set},
    {"continue_final_message", is_set},
    {"documents", is_set},
    {"echo", is_set},
    {"functions", is_set},
    {"guided_choice", is_any},
    {"guided_grammar", is_any},
    {"guided_json", is_any},
    {"guided_regex", is_any},
    {"logit_bias", is_set},
    {"logprobs", is_set},
    {"min_tokens", is_over_zero},
    {"modalities", is_modality},
    {"response_format", is_format},
    {"return_token_ids", is_set},
    {"stop", is_set},
    {"stop_token_ids", is_set},
    {"structured_outputs", is_any},
    {"suffix", is_set},
    {"tool_choice", is_choice_of_tools},
    {"tools", is_set},
    {"top_logprobs", is_over_zero},
    {"truncate_prompt_tokens", is_over_zero},
    {"web_search_options", is_any},
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_NOT_SUPPORTED, message);
}

// Throws Failure with NOT_SUPPORTED for keys that an echo cannot honor. Sampling parameters are accepted: the answer
// is the same at any temperature.
void refuse_what_needs_a_model(const json::Json &body) {
    for (const Refusal &refusal : refusals) {
        if (const auto found = body.find(refusal.key);
            found != body.end() && refusal.asks(*found)) {
            reject(std::string("\"") + refusal.key +
                   "\" of the request is not supported by the engine \"echo\", which repeats the "
                   "prompt; remove it, or use an engine with a model");
        }
    }
    for (const json::Json &message : body.value("messages", json::Json::array())) {
        const auto content = message.find("content");
        if (content == message.end() || !content->is_array()) {
            continue;
        }
        for (const json::Json &part : *content) {
            const auto type = part.is_object() ? part.find("type") : part.end();
            if (type != part.end() && type->is_string() &&
                !is_text_part(type->get<std::string>())) {
                reject("the request has a part of type " + json::dump(*type) +
                       " in \"messages\"; the engine \"echo\" takes text only");
            }
        }
    }
}

struct Echo {
    std::shared_ptr<Player> player = Player::create("dynamo-echo");
    double tokens_per_second = 0;
    std::uint64_t chunk_tokens = 1;
    std::uint64_t repeat = 1;
};

class EchoPlay : public Play {
  public:
    EchoPlay(const Echo &engine, Prompt prompt) : engine_(engine), prompt_(std::move(prompt)) {
        for (std::size_t at = 0; at < prompt_.text.size();) {
            const std::size_t end = word_end(prompt_.text, at);
            word_ends_.push_back(end);
            at = end;
        }
        total_ = std::min(prompt_.max_tokens, word_ends_.size() * engine.repeat);
    }

  private:
    std::optional<Step> before_push(dynamo_stream_t *stream) override {
        if (start_ == Clock::time_point()) {
            start_ = Clock::now();
        }
        if (pushed_ == total_) {
            return finish(stream);
        }
        if (engine_.tokens_per_second > 0) {
            const std::chrono::duration<double> passed(static_cast<double>(pushed_) /
                                                       engine_.tokens_per_second);
            const auto due = start_ + std::chrono::duration_cast<Clock::duration>(passed);
            if (Clock::now() < due) {
                return Step{Next::at, due};
            }
        }
        return std::nullopt;
    }

    std::int32_t push(dynamo_stream_t *stream) override {
        const std::uint64_t count = std::min(engine_.chunk_tokens, total_ - pushed_);
        text_.clear();
        ids_.clear();
        for (std::uint64_t i = pushed_; i < pushed_ + count; ++i) {
            const std::size_t word = i % word_ends_.size();
            const std::size_t begin = word == 0 ? 0 : word_ends_[word - 1];
            text_.append(prompt_.text, begin, word_ends_[word] - begin);
            ids_.push_back(static_cast<std::uint32_t>(word));
        }
        dynamo_chunk_t chunk{};
        chunk.struct_size = sizeof chunk;
        chunk.text = text_.data();
        chunk.text_length = text_.size();
        chunk.token_ids = ids_.data();
        chunk.token_count = ids_.size();
        const std::int32_t status = dynamo_stream_push(stream, &chunk);
        if (status == DYNAMO_OK) {
            pushed_ += count;
        }
        return status;
    }

    Step finish(dynamo_stream_t *stream) override {
        dynamo_usage_t usage{};
        usage.struct_size = sizeof usage;
        usage.prompt_tokens = word_ends_.size();
        usage.completion_tokens = pushed_;
        const bool is_whole = total_ == word_ends_.size() * engine_.repeat;
        dynamo_stream_finish(stream, is_whole ? "stop" : "length", &usage);
        return {Next::done};
    }

    const Echo &engine_;
    const Prompt prompt_;
    std::vector<std::size_t> word_ends_;
    std::uint64_t total_ = 0;
    std::uint64_t pushed_ = 0;
    Clock::time_point start_{};
    std::string text_;
    std::vector<std::uint32_t> ids_;
};

// Echoes the payload of a raw request unchanged, one payload per repetition.
class DataPlay : public Play {
  public:
    DataPlay(const dynamo_data_t &data, std::uint64_t times)
        : bytes_(static_cast<const char *>(data.bytes), data.length),
          kind_(data.kind),
          times_(times) {}

  private:
    std::optional<Step> before_push(dynamo_stream_t *stream) override {
        return pushed_ < times_ ? std::nullopt : std::optional(finish(stream));
    }

    std::int32_t push(dynamo_stream_t *stream) override {
        const dynamo_data_t data = {bytes_.data(), bytes_.size(), kind_};
        dynamo_chunk_t chunk{};
        chunk.struct_size = sizeof chunk;
        chunk.data = &data;
        const std::int32_t status = dynamo_stream_push(stream, &chunk);
        pushed_ += status == DYNAMO_OK ? 1 : 0;
        return status;
    }

    Step finish(dynamo_stream_t *stream) override {
        dynamo_stream_finish(stream, nullptr, nullptr);
        return {Next::done};
    }

    const std::string bytes_;
    const std::int32_t kind_;
    const std::uint64_t times_;
    std::uint64_t pushed_ = 0;
};

std::int32_t start(void *, const char *config_json, void **instance) {
    return guarded([&] {
        const json::Json config = json::parse(config_json, "configuration");
        const json::Json options = config.value("options", json::Json::object());
        check(options, option_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration", "options.");
        auto engine = std::make_unique<Echo>();
        engine->tokens_per_second = options.value("tokens_per_second", 0.0);
        engine->chunk_tokens = options.value("chunk_tokens", std::uint64_t{1});
        engine->repeat = options.value("repeat", std::uint64_t{1});
        *instance = engine.release();
    });
}

std::int32_t generate(void *instance, dynamo_stream_t *stream, const char *,
                      const char *request_json) {
    return guarded([&] {
        auto &engine = *static_cast<Echo *>(instance);
        const json::Json body = json::parse(request_json, "request");
        Prompt prompt = Prompt::of(body, "echo");
        refuse_what_needs_a_model(body);
        engine.player->play(stream, std::make_unique<EchoPlay>(engine, std::move(prompt)));
    });
}

std::int32_t generate_data(void *instance, dynamo_stream_t *stream, const char *,
                           const dynamo_data_t *data) {
    return guarded([&] {
        auto &engine = *static_cast<Echo *>(instance);
        engine.player->play(stream, std::make_unique<DataPlay>(*data, engine.repeat));
    });
}

}  // namespace

dynamo_engine_t echo() {
    dynamo_engine_t functions = player_functions<Echo>();
    functions.start = start;
    functions.generate = generate;
    functions.generate_data = generate_data;
    return functions;
}

}  // namespace dynamo::engines
