// SPDX-License-Identifier: Apache-2.0
// "echo": streams the prompt back, a word a token, and data as it is. Deterministic and without Python: for tests, for
// trying out an integration, and as the floor of benchmarks.
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/schema.hpp"
#include "engines/native.hpp"
#include "engines/player.hpp"
#include "engines/prompt.hpp"

namespace dynamo::engines {
namespace {

constexpr std::array option_keys = {
    Key{"tokens_per_second", Type::number,
        "Pace of each request; 0 (default) is as fast as possible.", 0, 1e9},
    Key{"chunk_tokens", Type::integer, "Tokens in a chunk; default 1.", 1, 1e6},
    Key{"repeat", Type::integer, "How often the prompt is said; default 1.", 1, 1e9},
};

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

    Step step(dynamo_stream_t *stream) override {
        if (start_ == Clock::time_point()) {
            start_ = Clock::now();
        }
        // A turn is bounded, so that one long answer does not keep the others waiting.
        for (int turn = 0; turn < 64; ++turn) {
            if (said_ == total_) {
                return finish(stream);
            }
            if (engine_.tokens_per_second > 0) {
                const auto due =
                    start_ +
                    std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                        static_cast<double>(said_) / engine_.tokens_per_second));
                if (Clock::now() < due) {
                    return {Next::at, due};
                }
            }
            const std::int32_t pushed = push(stream);
            if (pushed == DYNAMO_PENDING) {
                return {Next::when_space};
            }
            if (pushed == DYNAMO_ERROR_CANCELLED) {
                return finish(stream);
            }
            if (pushed != DYNAMO_OK) {
                dynamo_stream_fail(stream, pushed, dynamo_last_error(), nullptr);
                return {Next::done};
            }
        }
        return {Next::at, Clock::now()};
    }

  private:
    std::int32_t push(dynamo_stream_t *stream) {
        const std::uint64_t count = std::min(engine_.chunk_tokens, total_ - said_);
        text_.clear();
        ids_.clear();
        for (std::uint64_t i = said_; i < said_ + count; ++i) {
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
            said_ += count;
        }
        return status;
    }

    Step finish(dynamo_stream_t *stream) {
        dynamo_usage_t usage{};
        usage.struct_size = sizeof usage;
        usage.prompt_tokens = word_ends_.size();
        usage.completion_tokens = said_;
        const bool is_whole = total_ == word_ends_.size() * engine_.repeat;
        dynamo_stream_finish(stream, is_whole ? "stop" : "length", &usage);
        return {Next::done};
    }

    const Echo &engine_;
    const Prompt prompt_;
    std::vector<std::size_t> word_ends_;
    std::uint64_t total_ = 0;
    std::uint64_t said_ = 0;
    Clock::time_point start_{};
    std::string text_;
    std::vector<std::uint32_t> ids_;
};

// Data comes back as it is, an item each time.
class DataPlay : public Play {
  public:
    DataPlay(const dynamo_data_t &data, std::uint64_t times)
        : bytes_(static_cast<const char *>(data.bytes), data.length),
          kind_(data.kind),
          times_(times) {}

    Step step(dynamo_stream_t *stream) override {
        const dynamo_data_t data = {bytes_.data(), bytes_.size(), kind_};
        dynamo_chunk_t chunk{};
        chunk.struct_size = sizeof chunk;
        chunk.data = &data;
        for (int turn = 0; turn < 64 && said_ < times_; ++turn, ++said_) {
            const std::int32_t pushed = dynamo_stream_push(stream, &chunk);
            if (pushed == DYNAMO_PENDING) {
                return {Next::when_space};
            }
            if (pushed == DYNAMO_ERROR_CANCELLED) {
                said_ = times_;
                break;
            }
            if (pushed != DYNAMO_OK) {
                dynamo_stream_fail(stream, pushed, dynamo_last_error(), nullptr);
                return {Next::done};
            }
        }
        if (said_ < times_) {
            return {Next::at, Clock::now()};
        }
        dynamo_stream_finish(stream, nullptr, nullptr);
        return {Next::done};
    }

  private:
    const std::string bytes_;
    const std::int32_t kind_;
    const std::uint64_t times_;
    std::uint64_t said_ = 0;
};

std::int32_t start(void *, const char *config_json, void **instance) {
    return guarded([&] {
        const json::Json config = json::Json::parse(config_json);
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
        Prompt prompt = Prompt::of(json::Json::parse(request_json), "echo");
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

const dynamo_engine_t &echo() {
    using Callbacks = PlayerCallbacks<Echo>;
    static const dynamo_engine_t functions = {
        .struct_size = sizeof(dynamo_engine_t),
        .start = start,
        .generate = generate,
        .cancel = Callbacks::cancel,
        .space = Callbacks::space,
        .stop = Callbacks::stop,
        .kind = DYNAMO_ENGINE_TEXT,
        .describe = [](void *) -> const char * {
            return R"({"capabilities": ["chat", "completion"]})";
        },
        .metrics = nullptr,
        .generate_data = generate_data,
    };
    return functions;
}

}  // namespace dynamo::engines
