// SPDX-License-Identifier: Apache-2.0
#include "core/config.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/schema.hpp"

namespace dynamo {
namespace {

constexpr std::array stream_keys = {
    Key{"capacity", Type::integer,
        "Bound of each request's stream in tokens: the engine waits, or the request fails, when so "
        "many were not received yet. Default 4096, the size at which a Python engine that never "
        "suspends loses nothing to waiting.",
        1, 1 << 30},
    one_of(
        "block|fail",
        {"when_full", Type::string,
         "What happens at the bound: \"block\" (default) makes the engine wait, \"fail\" ends the "
         "request with DYNAMO_ERROR_SLOW_CONSUMER."}),
};

constexpr std::array python_keys = {
    Key{"executable", Type::string,
        "Interpreter whose environment Python engines run in, when the program does not run Python "
        "itself. Default: environment variable DYNAMO_LLM_PYTHON, else the environment that this "
        "library is installed in, else VIRTUAL_ENV, else python3 on PATH (docs/embedding.md)."},
    Key{"path", Type::array, "Folders that are added to sys.path, as strings."},
};

constexpr std::array config_keys = {
    Key{"engine", Type::string,
        "Name of the engine. Default \"mistralrs\". \"echo\" and \"scripted\" need no Python."},
    Key{"model", Type::string,
        "Directory or file of the model. Default: the demo model that is installed with the "
        "library."},
    Key{"options", Type::object, "The engine's own settings; each engine documents its keys."},
    one_of(
        "auto|off",
        {"pipeline", Type::string,
         "What stands before an engine that takes token ids: \"auto\" (default) has chat template, "
         "tokenizer, detokenizer and stop strings, which run in Python; with \"off\" callers send "
         "completion bodies whose \"prompt\" is an array of token ids, and get token ids."}),
    with_members(stream_keys, {"stream", Type::object, "Bounds of the streams."}),
    with_members(python_keys, {"python", Type::object, "Which Python runs Python engines."}),
};

std::string string_at(const json::Json &object, const char *key, std::string otherwise) {
    const auto found = object.find(key);
    return found == object.end() ? otherwise : found->get<std::string>();
}

void check_folders(const json::Json &folders) {
    for (const json::Json &folder : folders) {
        if (!folder.is_string()) {
            throw Failure(DYNAMO_ERROR_INVALID_CONFIG,
                          std::string("\"python.path\" of the configuration must be an array of "
                                      "strings, but has ") +
                              json::type_name(folder));
        }
    }
}

}  // namespace

Config Config::parse(std::string_view text) {
    text = json::without_bom(text);
    const json::Json object =
        json::parse_object(text, "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    Config config;
    config.text = text;
    config.engine = string_at(object, "engine", config.engine);
    config.model = string_at(object, "model", "");
    config.has_pipeline = string_at(object, "pipeline", "auto") == "auto";
    if (config.engine.empty()) {
        throw Failure(DYNAMO_ERROR_INVALID_CONFIG,
                      "\"engine\" of the configuration is empty; leave it out for the default");
    }
    if (const auto stream = object.find("stream"); stream != object.end()) {
        config.stream.capacity = stream->value("capacity", config.stream.capacity);
        config.stream.fail_when_full = stream->value("when_full", "block") == "fail";
    }
    if (const auto python = object.find("python"); python != object.end()) {
        config.python_executable = string_at(*python, "executable", "");
        check_folders(python->value("path", json::Json::array()));
    }
    return config;
}

const char *Config::schema() {
    // Leaked: callers may keep the text for ever.
    static const std::string *const text = [] {
        json::OrderedJson schema = {
            {"$schema", "https://json-schema.org/draft/2020-12/schema"},
            {"title", "dynamo-llm runtime configuration"},
        };
        schema.update(to_schema(config_keys));
        return new std::string(schema.dump(2));
    }();
    return text->c_str();
}

}  // namespace dynamo
