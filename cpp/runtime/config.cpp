// SPDX-License-Identifier: Apache-2.0
#include "runtime/config.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/error.hpp"
#include "base/schema.hpp"

namespace dynamo {
namespace {

constexpr double most = 9007199254740991.0;  // the largest integer that every JSON parser preserves

constexpr std::array stream_keys = {
    Key{"capacity", Type::integer,
        "Capacity of each request's stream, in tokens. When that many tokens have not been "
        "received, the engine waits or the request fails (\"when_full\"). Default 4096, which is "
        "large enough that a Python engine that never suspends loses no time to waiting.",
        1, 1 << 30},
    one_of("block|fail",
           {"when_full", Type::string,
            "What happens when a stream is full: \"block\" (default) makes the engine wait, "
            "\"fail\" ends the request with DYNAMO_ERROR_SLOW_CONSUMER."}),
};

constexpr std::array python_keys = {
    Key{"executable", Type::string,
        "Interpreter whose environment is used for Python engines, unless the program runs Python "
        "itself. Default: the environment variable DYNAMO_LLM_PYTHON, else the environment in "
        "which this library is installed, else VIRTUAL_ENV, else python3 on PATH "
        "(docs/embedding.md)."},
    Key{"path", Type::array, "Folders to add to sys.path, as strings."},
};

constexpr std::array limit_keys = {
    Key{"max_concurrent", Type::integer,
        "Maximum number of requests in the engines at once; more are queued by priority, then in "
        "order of arrival. Default 0: unlimited.",
        0, 1 << 30},
    Key{"max_queued", Type::integer,
        "Maximum number of queued requests; more are refused at once with DYNAMO_ERROR_OVERLOADED. "
        "Default 1024. Without max_concurrent and max_tokens no request is queued.",
        0, 1 << 30},
    Key{"max_tokens", Type::integer,
        "Maximum number of tokens in flight: the sum of prompt and max_tokens of the requests in "
        "the engines. A request that would exceed it is queued, unless no other request runs. A "
        "text prompt counts one token for four bytes; a request without max_tokens counts as the "
        "model's context length, if that is known. Default 0: unlimited.",
        0, most},
    Key{"first_token_ms", Type::integer,
        "Default deadline to the first token, in milliseconds, for requests that do not set one. "
        "Default: none.",
        1, most},
    Key{"total_ms", Type::integer,
        "Default deadline to the end, in milliseconds, for requests that do not set one. Default: "
        "none.",
        1, most},
    with_members(
        budget_keys,
        {"request", Type::object,
         "Maximum size of one request in several respects; a request that exceeds one is refused "
         "with DYNAMO_ERROR_INVALID_REQUEST when it is sent, before an engine works on it."}),
};

constexpr std::array template_keys = {
    one_of("process|host",
           {"run", Type::string,
            "Where chat templates run: \"process\" (default) is a child process, which is killed "
            "when a template exceeds the limits below; \"host\" is this process, without limits, "
            "for programs that cannot start a child process and trust their models."}),
    Key{"timeout_ms", Type::integer,
        "Maximum time for a template to render one request, in milliseconds; a request that "
        "exceeds it fails with DYNAMO_ERROR_INVALID_REQUEST. Default 10000.",
        1, 3600000},
    Key{"memory_mb", Type::integer,
        "Maximum memory for a template to render one request, in MiB, including messages and "
        "prompt; a request that exceeds it fails with DYNAMO_ERROR_INVALID_REQUEST. Default 512.",
        16, 1 << 20},
};

constexpr std::array media_keys = {
    Key{"allow_files", Type::array,
        "Folders, as strings with absolute paths, whose files requests may name as file: URLs. "
        "Symbolic links below them are not followed. Default: none."},
    Key{"allow_network", Type::boolean,
        "Whether requests may name http: and https: URLs, if all addresses of their host are "
        "public. Default false."},
    Key{"allow_hosts", Type::array,
        "Hosts, as strings, whose http: and https: URLs requests may name, also without "
        "allow_network, and even if their addresses are not public. Default: none."},
    Key{"max_bytes", Type::integer,
        "Maximum size of an image or audio, in bytes, decoded from base64. Default 41943040.", 1,
        1 << 30},
    Key{"max_parts", Type::integer,
        "Maximum number of images and audio in one request. Default 64.", 0, 10000},
    Key{"timeout_ms", Type::integer,
        "Maximum time for the download of one URL, in milliseconds. Default 30000.", 1, 3600000},
};

constexpr std::array cluster_keys = {
    Key{"namespace", Type::string,
        "Namespace of the models and workers in Dynamo. Default: the environment variable "
        "DYN_NAMESPACE, else \"dynamo\"."},
    Key{"namespace_prefix", Type::string,
        "Beginning of the namespaces whose models are used, such as those of a rolling update; "
        "replaces \"namespace\" for models. Default: the environment variable "
        "DYN_NAMESPACE_PREFIX, "
        "unless \"namespace\" is given."},
    one_of("etcd|file|kubernetes", {"discovery", Type::string,
                                    "How the processes of the cluster discover each other. Default "
                                    "\"etcd\"; \"file\" does not need a server."}),
    Key{"etcd", Type::array,
        "URLs of etcd, as strings. Default: the environment variable ETCD_ENDPOINTS, else "
        "http://127.0.0.1:2379."},
    Key{"path", Type::string,
        "Folder for \"discovery\": \"file\", the same for all processes. Default: the environment "
        "variable DYN_FILE_KV, else dynamo_store_kv in the folder for temporary files."},
    one_of("round_robin|random|power_of_two|kv|least_loaded|direct|device_aware_weighted",
           {"router", Type::string,
            "How a client selects the worker of a request. Default: the environment variable "
            "DYN_ROUTER_MODE, else \"round_robin\"; \"kv\" selects the worker with most of the "
            "prompt in its KV cache; with \"direct\" the request names the worker."}),
    Key{"router_options", Type::object,
        "Settings of the router: the keywords of Dynamo's RouterConfig and, for \"router\": "
        "\"kv\", of its KvRouterConfig. Default: Dynamo's environment variables, such as "
        "DYN_ROUTER_TEMPERATURE."},
    Key{"migration_limit", Type::integer,
        "How many times a request continues on another worker after its worker died. Default 3.", 0,
        1000},
    Key{"migration_max_seq_len", Type::integer,
        "Tokens of prompt and answer together from which a request no longer continues on another "
        "worker. Default: no limit.",
        1, 4294967295},
    one_of("tcp|nats",
           {"request_plane", Type::string,
            "Transport of requests. Default \"tcp\"; must match the workers of the cluster."}),
    one_of("tcp|quic",
           {"response_plane", Type::string,
            "Transport of responses; must match the workers of the cluster. Default: the "
            "environment variable DYN_RESPONSE_PLANE, else \"tcp\"."}),
    one_of("zmq|nats",
           {"event_plane", Type::string,
            "Transport of KV events. Default \"zmq\"; must match the workers of the cluster."}),
    Key{"nats", Type::array,
        "URLs of NATS, as strings, if a plane is \"nats\". Default: the environment variable "
        "NATS_SERVER, else nats://127.0.0.1:4222."},
    Key{"host", Type::string,
        "Address to which this process binds its sockets; the other processes of the cluster must "
        "be able to reach it. Default 127.0.0.1."},
    Key{"tls", Type::object,
        "Certificates, keys and passwords of the connections (docs/cluster-security.md)."},
    Key{"connect_timeout_ms", Type::integer,
        "How long to wait for the servers at the start, in milliseconds. Default 5000.", 1,
        3600000},
    Key{"stall_ms", Type::integer,
        "How long a worker may send nothing for a request, in milliseconds, rounded up to seconds; "
        "then the request continues on another worker. Default 60000; 0: no limit.",
        0, 86400000},
    Key{"request_timeout_ms", Type::integer,
        "How long a worker may take to acknowledge a request, in milliseconds, rounded up to "
        "seconds; then another worker gets it. Default 5000.",
        1, 3600000},
    Key{"lease_ttl_s", Type::integer,
        "With etcd: seconds until a process that died is removed from discovery. Default 30, as in "
        "Dynamo.",
        1, 3600},
};
constexpr std::array isolation_options_keys = {
    Key{"start_timeout_ms", Type::integer,
        "Maximum time for the child process to start and load the model, in milliseconds. Default "
        "600000; 0: unlimited.",
        0, 86400000},
    Key{"heartbeat_timeout_ms", Type::integer,
        "Once the model is loaded, a child process whose event loop does not answer for that many "
        "milliseconds is considered hung, and is killed. Default 30000; 0: never.",
        0, 86400000},
    Key{"stop_timeout_ms", Type::integer,
        "Maximum time for the engine to stop, in milliseconds; then the child process is killed. "
        "Default 5000.",
        0, 86400000},
    Key{"restart_delay_ms", Type::integer,
        "Delay before a child process is restarted that ended less than a minute after it was "
        "ready, or before that, in milliseconds; doubled with each further such end, up to "
        "max_restart_delay_ms. Default 500.",
        0, 86400000},
    Key{"max_restart_delay_ms", Type::integer,
        "Maximum delay before a restart, in milliseconds. Default 30000.", 0, 86400000},
    Key{"memory_limit_mib", Type::integer,
        "Maximum address space of the child process, in MiB (RLIMIT_AS); allocations beyond it "
        "fail in the child process. Default 0: unlimited.",
        0, 1 << 30},
    Key{"engine_library", Type::string,
        "Shared library that the child process loads before it starts the engine; its function "
        "dynamo_llm_register_engines() registers engines written in C."},
};

constexpr std::array engine_keys = {
    Key{"library", Type::string,
        "Shared library with an engine in C, which exports dynamo_engine_entry() "
        "(docs/write-an-engine-c.md); absolute, or relative to the working directory. Its code "
        "runs "
        "in this process."},
};

// The keys of one model and its engine.
constexpr std::array model_keys = {
    with_members(
        engine_keys,
        {"engine", Type::string_or_object,
         "Name of the engine. Default \"mistralrs\". \"echo\" and \"scripted\" do not need "
         "Python. An object names a shared library instead."}),
    Key{"model", Type::string,
        "Folder or file of the model; or a model of the Hugging Face Hub, \"hf:org/name\", "
        "\"hf:org/name:Q4_K_M\" (a GGUF quantization), or \"hf:org/name@revision\", which is used "
        "from the Hugging Face cache and otherwise downloaded (docs/models.md). Default: the demo "
        "model that is installed with the library."},
    Key{"offline", Type::boolean,
        "Whether a model \"hf:...\" must be in the Hugging Face cache: nothing is downloaded. "
        "Default "
        "false, unless the environment variable HF_HUB_OFFLINE is set."},
    Key{"device", Type::string,
        "Where the engine computes: \"auto\" (default) is the engine's choice, a GPU if its build "
        "has "
        "one; \"cpu\", \"cuda\", \"cuda:1\" (the second GPU), \"metal\", or another device that "
        "the "
        "engine knows. An engine without a choice refuses it (docs/gpu.md)."},
    Key{"options", Type::object, "Settings of the engine; each engine documents its keys."},
    with_members(cluster_keys,
                 {"cluster", Type::object,
                  "The NVIDIA Dynamo cluster to which the engine \"dynamo\" sends requests."}),
    one_of("auto|off",
           {"pipeline", Type::string,
            "Processing for token-level engines: \"auto\" (default) adds chat template, tokenizer, "
            "detokenizer and stop strings, which run in Python; with \"off\", callers send "
            "completion bodies whose \"prompt\" is an array of token ids, and receive token ids."}),
    Key{"tool_call_parser", Type::string,
        "For token-level engines: the parser of NVIDIA Dynamo that finds tool calls in the text of "
        "an answer, such as \"hermes\", or vLLM's, such as \"vllm:hermes\" "
        "(docs/recipe-tools.md). Default: none, for the engine "
        "\"dynamo\" that of the model's card; \"off\": none."},
    Key{"reasoning_parser", Type::string,
        "For token-level engines: the parser of NVIDIA Dynamo that finds reasoning in the text of "
        "an answer, such as \"deepseek_r1\", or vLLM's, such as \"vllm:qwen3\". Default: none, for "
        "the engine \"dynamo\" that of "
        "the model's card; \"off\": none."},
    Key{"trust_request_chat_template", Type::boolean,
        "Whether a request may contain a chat template as \"chat_template\", which is a program "
        "that the library runs. Default false: such a request is refused, but it may name a "
        "template of the model."},
    with_members(template_keys, {"templates", Type::object, "Limits for running chat templates."}),
    with_members(media_keys,
                 {"media", Type::object,
                  "What images and audio in requests may be: parts \"image_url\" and "
                  "\"input_audio\" of messages (docs/recipe-images.md). Data URLs are always "
                  "allowed. Requests that exceed this are refused with "
                  "DYNAMO_ERROR_INVALID_REQUEST."}),
    one_of("none|process",
           {"isolation", Type::string,
            "Where the engine runs: \"none\" (default) in this process; \"process\" in a child "
            "process. If the child process aborts, is killed or hangs, its requests end with "
            "DYNAMO_ERROR_ENGINE_FAILED, and the next request restarts it (docs/isolation.md)."}),
    with_members(isolation_options_keys,
                 {"isolation_options", Type::object,
                  "Settings of \"isolation\": \"process\" (docs/isolation.md)."}),
};

constexpr auto models_keys = join_keys(
    std::array{Key{"name", Type::string, "Name that requests give as \"model\"; required."}},
    model_keys);

constexpr auto config_keys = join_keys(
    model_keys,
    std::array{
        Key{"name", Type::string,
            "Name of the model: a request that gives another name as \"model\" is refused. "
            "Default: the value of \"model\", and requests may give any name."},
        with_members(
            models_keys,
            {"models", Type::array,
             "Several models in one runtime, instead of engine, model, options, pipeline and name: "
             "a request is served by the model that it names as \"model\", or by the first one."}),
        with_members(limit_keys,
                     {"limits", Type::object,
                      "Limits on concurrent requests, deadlines, and the size of a request."}),
        with_members(stream_keys, {"stream", Type::object, "Capacity of the streams."}),
        with_members(python_keys, {"python", Type::object, "The Python that runs Python engines."}),
    });

// `noun`: what each string of the array is.
void check_strings(const json::Json &strings, const std::string &key, const char *noun) {
    for (const json::Json &one : strings) {
        if (!one.is_string()) {
            reject_config("\"" + key +
                          "\" of the configuration must be an array of strings, but has " +
                          json::type_name(one));
        }
        if (one.get_ref<const std::string &>().find('\0') != std::string::npos) {
            reject_config("\"" + key + "\" of the configuration has a " + noun +
                          " with a NUL character: " + json::dump(one));
        }
    }
}

void check_media(const json::Json &object) {
    if (const auto media = object.find("media"); media != object.end()) {
        check_strings(media->value("allow_files", json::Json::array()), "media.allow_files",
                      "folder");
        check_strings(media->value("allow_hosts", json::Json::array()), "media.allow_hosts",
                      "host");
    }
}

// The loader would search the system's folders for a path without a folder.
std::string absolute_path(const std::string &path) {
    std::error_code error;
    const std::filesystem::path absolute = std::filesystem::absolute(path, error);
    if (error) {
        reject_config(
            "\"engine.library\" of the configuration, \"" + path +
            "\", is relative, but the working directory cannot be read: " + error.message());
    }
    return absolute.string();
}

// Returns the name of the file without "lib" and extension: "babble" for "build/libbabble.so".
std::string name_of_library(const std::string &path) {
    std::string name = std::filesystem::path(path).filename().string();
    name = name.substr(0, name.find('.'));
    return name.size() > 3 && name.rfind("lib", 0) == 0 ? name.substr(3) : name;
}

// Returns the device that the engine is to compute on; "" if that is the engine's choice.
std::string read_device(const json::Json &object) {
    std::string device = object.value("device", "auto");
    const std::size_t colon = device.find(':');
    const std::string kind = device.substr(0, colon);
    const bool has_kind = !kind.empty() && std::all_of(kind.begin(), kind.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || c == '_';
    });
    const std::string index = colon == std::string::npos ? "0" : device.substr(colon + 1);
    const bool has_index =
        !index.empty() && index.size() <= 4 &&
        std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!has_kind || !has_index || (kind == "auto" && colon != std::string::npos)) {
        reject_config(
            "\"device\" of the configuration must be the name of a device, such as auto, cpu, "
            "cuda, cuda:1, or metal, not \"" +
            redacted(device) + "\"");
    }
    return device == "auto" ? "" : device;
}

void read_engine(const json::Json &object, ModelConfig &config) {
    check_media(object);
    for (const char *key : {"engine", "name"}) {
        if (const auto found = object.find(key);
            found != object.end() && json::is_text(*found, "")) {
            reject_config(std::string("\"") + key +
                          "\" of the configuration is empty; leave it out for the default");
        }
    }
    if (const auto engine = object.find("engine"); engine != object.end()) {
        if (engine->is_object()) {
            const std::string path = engine->value("library", "");
            if (path.empty()) {
                reject_config(
                    "\"engine\" of the configuration is an object without \"library\"; give the "
                    "path "
                    "of a shared library, or the name of an engine in place of the object");
            }
            config.library = absolute_path(path);
            config.engine = name_of_library(path);
        } else {
            config.engine = engine->get<std::string>();
        }
    }
    config.model = object.value("model", "");
    config.device = read_device(object);
    config.name = object.value("name", "");
    config.has_pipeline = object.value("pipeline", "auto") == "auto";
    config.is_isolated = object.value("isolation", "none") == "process";
    for (const char *key : {"tool_call_parser", "reasoning_parser"}) {
        if (object.value(key, "off") != "off") {
            config.parser_key = key;
        }
    }
}

void read_limits(const json::Json &object, Limits &limits) {
    limits.concurrent = object.value("max_concurrent", limits.concurrent);
    limits.queued = object.value("max_queued", limits.queued);
    limits.tokens = object.value("max_tokens", limits.tokens);
    limits.first_token_ms = object.value("first_token_ms", limits.first_token_ms);
    limits.total_ms = object.value("total_ms", limits.total_ms);
    if (const auto request = object.find("request"); request != object.end()) {
        limits.request = Budget(*request);
    }
}

// Reads "models", an array of configurations.
std::vector<ModelConfig> read_models(const json::Json &object,
                                     const std::string &python_executable) {
    const json::Json &models = object["models"];
    for (const char *key : {"engine", "model", "options", "pipeline", "name", "tool_call_parser",
                            "reasoning_parser"}) {
        if (object.contains(key)) {
            reject_config(std::string("the configuration has \"models\" and \"") + key +
                          "\"; set it in each entry of \"models\" instead");
        }
    }
    if (models.empty()) {
        reject_config("\"models\" of the configuration is empty; it needs at least one entry");
    }
    std::vector<ModelConfig> result;
    for (const json::Json &given : models) {
        const std::string where =
            "\"models[" + std::to_string(result.size()) + "]\" of the configuration ";
        ModelConfig model;
        json::Json whole = given;
        for (const char *key : {"cluster", "device", "isolation", "isolation_options", "media",
                                "offline", "templates", "trust_request_chat_template"}) {
            if (const auto found = object.find(key); found != object.end()) {
                whole.emplace(key, *found);  // unless the model has its own
            }
        }
        read_engine(whole, model);
        if (model.name.empty()) {
            reject_config(where + "needs a \"name\"");
        }
        for (const ModelConfig &other : result) {
            if (other.name == model.name) {
                reject_config(where + "has the \"name\" of another entry, \"" + model.name +
                              "\"; names must be unique");
            }
        }
        if (const auto python = object.find("python"); python != object.end()) {
            whole["python"] = *python;
        }
        model.text = whole.dump();
        model.python_executable = python_executable;
        result.push_back(std::move(model));
    }
    return result;
}

}  // namespace

RuntimeConfig RuntimeConfig::parse(std::string_view text) {
    text = json::without_bom(text);
    const json::Json object =
        json::parse_object(text, "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    RuntimeConfig config;
    ModelConfig model;
    model.text = text;
    read_engine(object, model);
    if (const auto limits = object.find("limits"); limits != object.end()) {
        read_limits(*limits, config.limits);
    }
    if (const auto stream = object.find("stream"); stream != object.end()) {
        config.stream.capacity = stream->value("capacity", config.stream.capacity);
        config.stream.fail_when_full = stream->value("when_full", "block") == "fail";
    }
    if (const auto python = object.find("python"); python != object.end()) {
        model.python_executable = python->value("executable", "");
        check_strings(python->value("path", json::Json::array()), "python.path", "folder");
    }
    config.has_model_list = object.contains("models");
    if (config.has_model_list) {
        config.models = read_models(object, model.python_executable);
    } else {
        config.models.push_back(std::move(model));
    }
    return config;
}

const char *RuntimeConfig::schema() {
    // Never freed: callers may keep the text.
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
