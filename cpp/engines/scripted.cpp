// SPDX-License-Identifier: Apache-2.0
// "scripted": plays a script. Tests use it for cases that no real engine produces on demand.
//
// A script is the array "options.script". Without this key, the prompt of each request is its script. Its entries are
// objects with the keys below. At its end, the answer ends with "stop".
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/schema.hpp"
#include "engines/native.hpp"
#include "engines/player.hpp"
#include "engines/prompt.hpp"

namespace dynamo::engines {
namespace {

using json::Json;

constexpr std::array error_keys = {
    Key{"status", Type::string, "Name of a status, with or without DYNAMO_ERROR_."},
    Key{"message", Type::string, "What the error says."},
};

constexpr std::array entry_keys = {
    Key{"text", Type::string, "Text to push as one token."},
    Key{"bytes", Type::string, "Bytes to push, in hexadecimal: split or invalid code points."},
    Key{"token_ids", Type::array, "Token IDs to push with the text."},
    Key{"delta", Type::object, "Other keys of the delta to push."},
    Key{"logprobs", Type::object, "Log-probs of the choice to push."},
    Key{"repeat", Type::integer, "How often to push it; default 1.", 1, 1e9},
    Key{"delay_ms", Type::number, "Milliseconds to wait first.", 0, 1e9},
    Key{"stall", Type::boolean, "Push nothing more; only a cancel ends the answer."},
    with_members(error_keys, {"error", Type::object, "Fail the request."}),
    with_members(error_keys, {"refuse", Type::object, "First entry only: fail in generate()."}),
    Key{"finish", Type::string, "End the answer with this reason."},
};

constexpr std::array option_keys = {
    Key{"script", Type::array, "What every request gets; default: its prompt, read as a script."},
    with_members(error_keys, {"start_error", Type::object, "Fails the start."}),
};

struct Entry {
    std::string bytes;
    std::vector<std::uint32_t> token_ids;
    std::string delta;
    std::string logprobs;
    bool has_chunk = false;
    std::uint64_t repeat = 1;
    std::chrono::microseconds delay{0};
    bool stall = false;
    std::int32_t error = DYNAMO_OK;
    bool is_refusal = false;
    std::string message;
    std::string finish;
};

std::string from_hex(const std::string &text) {
    const auto digit = [&](char c) -> int {
        if (c >= '0' && c <= '9') {
            return c - '0';
        }
        if (c >= 'a' && c <= 'f') {
            return c - 'a' + 10;
        }
        reject_config("\"bytes\" of a script must be pairs of the digits 0-9 and a-f, not \"" +
                      text + "\"");
    };
    if (text.size() % 2 != 0) {
        reject_config("\"bytes\" of a script must be pairs of digits, not \"" + text + "\"");
    }
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        bytes += static_cast<char>(digit(text[i]) * 16 + digit(text[i + 1]));
    }
    return bytes;
}

std::int32_t parse_status(const Json &error) {
    const std::string name = error.value("status", "ENGINE_FAILED");
    const std::int32_t status = status_of_name(name);
    if (status >= 0) {
        reject_config("\"" + name + "\" is not the name of an error status");
    }
    return status;
}

std::vector<Entry> parse_script(const Json &script) {
    if (!script.is_array()) {
        reject_config(std::string("a script must be an array of objects, not ") +
                      json::type_name(script));
    }
    std::vector<Entry> entries;
    for (const Json &object : script) {
        if (!object.is_object()) {
            reject_config(std::string("an entry of a script must be an object, not ") +
                          json::type_name(object));
        }
        check(object, entry_keys, DYNAMO_ERROR_INVALID_CONFIG, "script");
        Entry entry;
        entry.bytes = object.value("text", "") + from_hex(object.value("bytes", ""));
        for (const Json &id : object.value("token_ids", Json::array())) {
            if (!id.is_number_unsigned() || id.get<std::uint64_t>() > UINT32_MAX) {
                reject_config("\"token_ids\" of a script must be integers from 0 to 4294967295");
            }
            entry.token_ids.push_back(id.get<std::uint32_t>());
        }
        entry.delta = object.contains("delta") ? json::dump(object["delta"]) : "";
        entry.logprobs = object.contains("logprobs") ? json::dump(object["logprobs"]) : "";
        entry.has_chunk = object.contains("text") || object.contains("bytes") ||
                          object.contains("token_ids") || object.contains("delta") ||
                          object.contains("logprobs");
        entry.repeat = object.value("repeat", std::uint64_t{1});
        entry.delay = std::chrono::microseconds(
            static_cast<std::int64_t>(object.value("delay_ms", 0.0) * 1000));
        entry.stall = object.value("stall", false);
        for (const char *key : {"error", "refuse"}) {
            if (const auto error = object.find(key); error != object.end()) {
                entry.error = parse_status(*error);
                entry.message = error->value("message", "the script says so");
                entry.is_refusal = std::string(key) == "refuse";
            }
        }
        entry.finish = object.value("finish", "");
        entries.push_back(std::move(entry));
    }
    return entries;
}

struct Scripted {
    std::shared_ptr<Player> player = Player::create("dynamo-script");
    bool has_script = false;
    std::vector<Entry> script;
};

class ScriptedPlay : public Play {
  public:
    ScriptedPlay(std::vector<Entry> script, std::uint64_t prompt_tokens)
        : script_(std::move(script)), prompt_tokens_(prompt_tokens) {}

  private:
    std::optional<Step> before_push(dynamo_stream_t *stream) override {
        for (; at_ < script_.size(); advance()) {
            const Entry &entry = script_[at_];
            if (entry.delay.count() > 0 && !has_waited_) {
                has_waited_ = true;
                return Step{Next::at, Clock::now() + entry.delay};
            }
            if (entry.stall) {
                return Step{Next::never};
            }
            if (entry.error != DYNAMO_OK) {
                dynamo_stream_fail(stream, entry.error, entry.message.c_str(), nullptr);
                return Step{Next::done};
            }
            if (!entry.finish.empty()) {
                return finish(stream, entry.finish.c_str());
            }
            if (entry.has_chunk) {
                return std::nullopt;
            }
        }
        return finish(stream, "stop");
    }

    std::int32_t push(dynamo_stream_t *stream) override {
        const Entry &entry = script_[at_];
        dynamo_chunk_t chunk{};
        chunk.struct_size = sizeof chunk;
        chunk.text = entry.bytes.data();
        chunk.text_length = entry.bytes.size();
        chunk.token_ids = entry.token_ids.empty() ? nullptr : entry.token_ids.data();
        chunk.token_count = entry.token_ids.size();
        chunk.delta_json = entry.delta.empty() ? nullptr : entry.delta.c_str();
        chunk.logprobs_json = entry.logprobs.empty() ? nullptr : entry.logprobs.c_str();
        const std::int32_t status = dynamo_stream_push(stream, &chunk);
        if (status == DYNAMO_OK) {
            pushed_tokens_ += chunk.token_count > 0 ? chunk.token_count : 1;
            if (++repeated_ >= entry.repeat) {
                advance();
            }
        }
        return status;
    }

    Step finish(dynamo_stream_t *stream) override { return finish(stream, nullptr); }

    void advance() {
        ++at_;
        repeated_ = 0;
        has_waited_ = false;
    }

    Step finish(dynamo_stream_t *stream, const char *reason) {
        dynamo_usage_t usage{};
        usage.struct_size = sizeof usage;
        usage.prompt_tokens = prompt_tokens_;
        usage.completion_tokens = pushed_tokens_;
        dynamo_stream_finish(stream, reason, &usage);
        return {Next::done};
    }

    const std::vector<Entry> script_;
    const std::uint64_t prompt_tokens_;
    std::size_t at_ = 0;
    std::uint64_t repeated_ = 0;
    bool has_waited_ = false;
    std::uint64_t pushed_tokens_ = 0;
};

std::int32_t start(void *, const char *config_json, void **instance) {
    return guarded([&] {
        const Json config = json::parse(config_json, "configuration");
        const Json options = config.value("options", Json::object());
        check(options, option_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration", "options.");
        if (const auto error = options.find("start_error"); error != options.end()) {
            throw Failure(parse_status(*error), error->value("message", "the script says so"));
        }
        auto script = parse_script(options.value("script", Json::array()));
        auto engine = std::make_unique<Scripted>();
        engine->has_script = options.contains("script");
        engine->script = std::move(script);
        *instance = engine.release();
    });
}

std::int32_t generate(void *instance, dynamo_stream_t *stream, const char *,
                      const char *request_json) {
    return guarded([&] {
        auto &engine = *static_cast<Scripted *>(instance);
        const Prompt prompt = Prompt::of(json::parse(request_json, "request"), "scripted");
        std::uint64_t words = 0;
        for (std::size_t at = 0; at < prompt.text.size(); at = word_end(prompt.text, at)) {
            ++words;
        }
        std::vector<Entry> script = engine.script;
        if (!engine.has_script) {
            try {
                script = parse_script(json::parse(prompt.text, "script in the prompt"));
            } catch (const Failure &failure) {
                throw Failure(DYNAMO_ERROR_INVALID_REQUEST, failure.what());
            }
        }
        if (!script.empty() && script[0].is_refusal) {
            throw Failure(script[0].error, script[0].message);
        }
        engine.player->play(stream, std::make_unique<ScriptedPlay>(std::move(script), words));
    });
}

}  // namespace

dynamo_engine_t scripted() {
    dynamo_engine_t functions = player_functions<Scripted>();
    functions.start = start;
    functions.generate = generate;
    return functions;
}

}  // namespace dynamo::engines
