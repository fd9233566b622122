// SPDX-License-Identifier: Apache-2.0
#include "core/config.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/schema.hpp"

namespace dynamo {
namespace {

constexpr double most = 9007199254740991.0;  // an integer that every JSON reader keeps

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

constexpr std::array limit_keys = {
    Key{"max_concurrent", Type::integer,
        "Requests that the engines work on at once; more wait in a queue, by their priority and "
        "then in order. Default 0: any number.",
        0, 1 << 30},
    Key{"max_queued", Type::integer,
        "Requests that wait in the queue; one more is refused at once with "
        "DYNAMO_ERROR_OVERLOADED. Default 1024. Without max_concurrent and max_tokens nothing "
        "waits.",
        0, 1 << 30},
    Key{"max_tokens", Type::integer,
        "Tokens in flight: prompt and max_tokens of the requests that the engines work on, summed. "
        "A request that would exceed it waits, unless nothing else runs. A prompt of text counts a "
        "token for four bytes; a request without max_tokens counts as the model's context length, "
        "where that is known. Default 0: any number.",
        0, most},
    Key{"first_token_ms", Type::integer,
        "Deadline to the first token, in milliseconds, of requests that have none of their own. "
        "Default: none.",
        1, most},
    Key{"total_ms", Type::integer,
        "Deadline to the end, in milliseconds, of requests that have none of their own. Default: "
        "none.",
        1, most},
};

constexpr Key engine_key = {
    "engine", Type::string,
    "Name of the engine. Default \"mistralrs\". \"echo\" and \"scripted\" need no Python."};
constexpr Key model_key = {
    "model", Type::string,
    "Directory or file of the model. Default: the demo model that is installed with the library."};
constexpr Key options_key = {"options", Type::object,
                             "The engine's own settings; each engine documents its keys."};
constexpr Key pipeline_key = one_of(
    "auto|off",
    {"pipeline", Type::string,
     "What stands before an engine that takes token ids: \"auto\" (default) has chat template, "
     "tokenizer, detokenizer and stop strings, which run in Python; with \"off\" callers send "
     "completion bodies whose \"prompt\" is an array of token ids, and get token ids."});

constexpr std::array cluster_keys = {
    Key{"namespace", Type::string,
        "Namespace of Dynamo whose models are seen, and in which workers are. Default \"dynamo\"."},
    one_of(
        "etcd|file|kubernetes",
        {"discovery", Type::string,
         "Where the processes of the cluster find each other. Default \"etcd\"; \"file\" needs no "
         "server."}),
    Key{"etcd", Type::array,
        "URLs of etcd, as strings. Default: environment variable ETCD_ENDPOINTS, else "
        "http://127.0.0.1:2379."},
    Key{"path", Type::string,
        "Folder of the discovery \"file\", the same for all processes. Default: environment "
        "variable "
        "DYN_FILE_KV, else dynamo_store_kv in the folder for temporary files."},
    one_of(
        "round_robin|random|power_of_two|kv|least_loaded|direct",
        {"router", Type::string,
         "How a client chooses the worker of a request. Default \"round_robin\"; \"kv\" takes the "
         "one that has most of the prompt in its KV cache; with \"direct\" the request names it."}),
    Key{"router_options", Type::object,
        "Settings of the router \"kv\": the keywords of Dynamo's KvRouterConfig."},
    Key{"migration_limit", Type::integer,
        "How often a request whose worker dies goes on with another worker. Default 3.", 0, 1000},
    one_of("tcp|nats",
           {"request_plane", Type::string,
            "What requests travel on. Default \"tcp\"; as the cluster's workers have it."}),
    one_of("zmq|nats",
           {"event_plane", Type::string,
            "What KV events travel on. Default \"zmq\"; as the cluster's workers have it."}),
    Key{"nats", Type::array,
        "URLs of NATS, as strings, where a plane is \"nats\". Default: environment variable "
        "NATS_SERVER, else nats://127.0.0.1:4222."},
    Key{"host", Type::string,
        "Address that this process's sockets are bound to, which the rest of the cluster must "
        "reach. "
        "Default 127.0.0.1."},
    Key{"tls", Type::object,
        "Certificates, keys and passwords of the connections (docs/cluster-security.md)."},
    Key{"connect_timeout_ms", Type::integer,
        "How long the servers may take to answer at the start, in milliseconds. Default 5000.", 1,
        3600000},
    Key{"lease_ttl_s", Type::integer,
        "With etcd: seconds until others forget a process that died. Default: Dynamo's own, 30.", 1,
        3600},
};
constexpr Key cluster_key = with_members(
    cluster_keys,
    {"cluster", Type::object,
     "The cluster of NVIDIA Dynamo that the engine \"dynamo\" sends its requests to."});

constexpr std::array models_keys = {
    Key{"name", Type::string, "Name that requests give as \"model\"; needed."},
    engine_key,
    model_key,
    options_key,
    cluster_key,
    pipeline_key,
};

constexpr std::array config_keys = {
    engine_key,
    model_key,
    options_key,
    cluster_key,
    pipeline_key,
    Key{"name", Type::string,
        "Name of the model: a request whose \"model\" is another one is refused. Default: the "
        "model as it is given here, and requests may say what they like."},
    with_members(models_keys,
                 {"models", Type::array,
                  "Several models in one runtime, in place of engine, model, options, pipeline and "
                  "name: a request is served by the one whose name it gives as \"model\", or by "
                  "the first if it gives none."}),
    with_members(limit_keys, {"limits", Type::object,
                              "How much the runtime takes on at once, and for how long."}),
    with_members(stream_keys, {"stream", Type::object, "Bounds of the streams."}),
    with_members(python_keys, {"python", Type::object, "Which Python runs Python engines."}),
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_CONFIG, message);
}

std::string string_at(const json::Json &object, const char *key, std::string otherwise) {
    const auto found = object.find(key);
    return found == object.end() ? otherwise : found->get<std::string>();
}

void check_folders(const json::Json &folders) {
    for (const json::Json &folder : folders) {
        if (!folder.is_string()) {
            reject(std::string("\"python.path\" of the configuration must be an array of strings, "
                               "but has ") +
                   json::type_name(folder));
        }
    }
}

void read_engine(const json::Json &object, Config &config) {
    for (const char *key : {"engine", "name"}) {
        if (const auto found = object.find(key);
            found != object.end() && json::is_text(*found, "")) {
            reject(std::string("\"") + key +
                   "\" of the configuration is empty; leave it out for the default");
        }
    }
    config.engine = string_at(object, "engine", config.engine);
    config.model = string_at(object, "model", "");
    config.name = string_at(object, "name", "");
    config.has_pipeline = string_at(object, "pipeline", "auto") == "auto";
}

void read_limits(const json::Json &object, Limits &limits) {
    limits.concurrent = object.value("max_concurrent", limits.concurrent);
    limits.queued = object.value("max_queued", limits.queued);
    limits.tokens = object.value("max_tokens", limits.tokens);
    limits.first_token_ms = object.value("first_token_ms", limits.first_token_ms);
    limits.total_ms = object.value("total_ms", limits.total_ms);
}

// Makes a configuration of each of "models".
void read_models(const json::Json &object, Config &config) {
    const json::Json &models = object["models"];
    for (const char *key : {"engine", "model", "options", "pipeline", "name"}) {
        if (object.contains(key)) {
            reject(std::string("the configuration has \"models\" and \"") + key +
                   "\"; with \"models\", it belongs into each of them");
        }
    }
    if (models.empty()) {
        reject("\"models\" of the configuration is empty; it needs one at least");
    }
    for (const json::Json &given : models) {
        const std::string where =
            "\"models[" + std::to_string(config.models.size()) + "]\" of the configuration ";
        Config model;
        read_engine(given, model);
        if (model.name.empty()) {
            reject(where + "needs a \"name\"");
        }
        for (const Config &other : config.models) {
            if (other.name == model.name) {
                reject(where + "is called \"" + model.name + "\", and so is another one");
            }
        }
        json::Json whole = given;
        if (const auto python = object.find("python"); python != object.end()) {
            whole["python"] = *python;
        }
        if (const auto cluster = object.find("cluster"); cluster != object.end()) {
            whole.emplace("cluster", *cluster);  // unless the model has its own
        }
        model.text = whole.dump();
        model.python_executable = config.python_executable;
        config.models.push_back(std::move(model));
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
    read_engine(object, config);
    if (const auto limits = object.find("limits"); limits != object.end()) {
        read_limits(*limits, config.limits);
    }
    if (const auto stream = object.find("stream"); stream != object.end()) {
        config.stream.capacity = stream->value("capacity", config.stream.capacity);
        config.stream.fail_when_full = stream->value("when_full", "block") == "fail";
    }
    if (const auto python = object.find("python"); python != object.end()) {
        config.python_executable = string_at(*python, "executable", "");
        check_folders(python->value("path", json::Json::array()));
    }
    if (object.contains("models")) {
        read_models(object, config);
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
