// SPDX-License-Identifier: Apache-2.0
#include "services/router.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/decimal.hpp"
#include "base/schema.hpp"
#include "base/utf8.hpp"
#include "runtime/body.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class = "dynamo_llm.runtime.cluster.router.engine:RouterEngine";
constexpr const char *what = "router";

constexpr std::array config_keys = {
    or_null({"cluster", Type::object, ""}),
    Key{"endpoint", Type::string, ""},
    one_of("aggregated|disaggregated", {"mode", Type::string, ""}),
    Key{"prefill_endpoint", Type::string, ""},
    Key{"kv_block_size", Type::integer, "", 1, 1 << 20},
    Key{"workers", Type::array, ""},
    Key{"options", Type::object, ""},
    Key{"model", Type::string, ""},
    Key{"wait_for_workers_ms", Type::integer, "", 0, 1e9},
    Key{"python", Type::object, ""},
    Key{"trust_request_chat_template", Type::boolean, ""},
    Key{"templates", Type::object, ""},
};

[[noreturn]] void reject(const std::string &message) {
    throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT, message);
}

void put(Json &object, const char *key, const char *text) {
    if (text == nullptr) {
        return;
    }
    if (invalid_utf8_at(text) != std::string_view::npos) {
        reject(std::string(key) + " is not UTF-8");
    }
    object[key] = text;
}

const char *phase_name(std::int32_t phase) {
    switch (phase) {
        case DYNAMO_ROUTE_ALL:
            return "all";
        case DYNAMO_ROUTE_PREFILL:
            return "prefill";
        case DYNAMO_ROUTE_DECODE:
            return "decode";
        default:
            reject("options->phase must be a dynamo_route_phase_t from 0 to 2, not " +
                   std::to_string(phase));
    }
}

// Converts options to the members of a command.
Json command_of(const Router::Options &options) {
    Json command = {{"phase", phase_name(options.phase)}};
    put(command, "request_id", options.request_id);
    put(command, "lora_name", options.lora_name);
    put(command, "cache_salt", options.cache_salt);
    if (options.worker_count > 0) {
        if (options.worker_ids == nullptr) {
            reject("options->worker_ids is NULL, but options->worker_count is " +
                   std::to_string(options.worker_count));
        }
        command["worker_ids"] = std::span(options.worker_ids, options.worker_count);
    }
    if (options.strict_priority > 0) {
        command["strict_priority"] = options.strict_priority;
    }
    if (!(options.priority_jump >= 0 && options.priority_jump <= 1e9)) {
        reject("options->priority_jump must be from 0 to 1e9 seconds, not " +
               decimal::print(options.priority_jump));
    }
    if (options.priority_jump > 0) {
        command["priority_jump"] = options.priority_jump;
    }
    if (options.expected_output_tokens > 4294967295) {
        reject("options->expected_output_tokens must be from 0 to 4294967295, not " +
               std::to_string(options.expected_output_tokens));
    }
    if (options.expected_output_tokens > 0) {
        command["expected_output_tokens"] = options.expected_output_tokens;
    }
    if (options.constraints_json != nullptr) {
        command["constraints"] = json::parse_object(options.constraints_json, "constraints_json",
                                                    DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    return command;
}

std::optional<Chosen> chosen_of(const Json &answer, const std::string &prefix) {
    if (!answer.contains(prefix + "worker_id")) {
        return std::nullopt;
    }
    Chosen chosen;
    chosen.worker_id = answer.at(prefix + "worker_id").get<std::uint64_t>();
    chosen.data_parallel_rank = answer.at(prefix + "data_parallel_rank").get<std::uint32_t>();
    chosen.overlap_blocks = answer.at(prefix + "overlap_blocks").get<std::uint32_t>();
    if (const Json &address = answer.at(prefix + "address"); address.is_string()) {
        chosen.address = address.get<std::string>();
    }
    return chosen;
}

Json answer_of(const Service &service, const char *name, Json command) {
    return json::parse(service.call(json::dump(Json{{name, std::move(command)}})), "answer");
}

Selection selection_of(const Json &answer) {
    return {chosen_of(answer, ""), chosen_of(answer, "prefill_"), {}};
}

Json of_request(const char *request_id) {
    if (request_id == nullptr) {
        reject("request_id is NULL");
    }
    Json command = Json::object();
    put(command, "request_id", request_id);
    return command;
}

}  // namespace

RuntimeConfig Router::parse_config(std::string_view text) {
    const Json object =
        json::parse_object(json::without_bom(text), "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    return Service::configure(engine_class, "configuration", text);
}

Router::Router(const RuntimeConfig &config)
    : service_(what, config), info_(json::dump(service_.info())) {}

Selection Router::select(Tokens tokens, const Options &options) const {
    Json command = command_of(options);
    command["token_ids"] = tokens;
    Selection selection = selection_of(answer_of(service_, "select", std::move(command)));
    selection.token_ids.assign(tokens.begin(), tokens.end());
    return selection;
}

Selection Router::select_body(std::string_view request_json, const Options &options) const {
    Body body = Body::parse(request_json);
    if (body.kind != BodyKind::chat && body.kind != BodyKind::completion) {
        throw Failure(
            DYNAMO_ERROR_INVALID_REQUEST,
            "a router takes the body of a chat, with \"messages\", or of a completion, with "
            "\"prompt\"");
    }
    // Inserts the body unparsed: a chat template may print objects, so the order of their keys must be kept.
    std::string command = json::dump(Json{{"select", command_of(options)}});
    command.resize(command.size() - 2);  // removes the two closing braces
    command += ",\"body\":" + body.text + "}}";
    const Json answer = json::parse(service_.call(command), "answer");
    Selection selection = selection_of(answer);
    selection.token_ids = answer.at("token_ids").get<std::vector<std::uint32_t>>();
    return selection;
}

void Router::reserve(const char *request_id, const dynamo_selection_t &selection,
                     const Options &options) const {
    Json command = command_of(options);
    command.update(of_request(request_id));
    command["token_ids"] = std::span(selection.token_ids, selection.token_count);
    if (selection.has_worker != 0) {
        command["worker_id"] = selection.worker_id;
        command["data_parallel_rank"] = selection.data_parallel_rank;
    }
    if (selection.has_prefill_worker != 0) {
        command["prefill_worker_id"] = selection.prefill_worker_id;
        command["prefill_data_parallel_rank"] = selection.prefill_data_parallel_rank;
    }
    answer_of(service_, "reserve", std::move(command));
}

void Router::prefill_complete(const char *request_id) const {
    answer_of(service_, "prefill_complete", of_request(request_id));
}

void Router::output_block(const char *request_id, double decay) const {
    if (!(decay >= 0 && decay <= 1)) {
        reject("decay must be from 0 to 1, not " + decimal::print(decay));
    }
    Json command = of_request(request_id);
    command["decay"] = decay;
    answer_of(service_, "output_block", std::move(command));
}

void Router::free(const char *request_id) const {
    answer_of(service_, "free", of_request(request_id));
}

std::string Router::loads(Tokens tokens, const Options &options) const {
    Json command = command_of(options);
    command["token_ids"] = tokens;
    return service_.call(json::dump(Json{{"loads", std::move(command)}}));
}

std::string Router::overlaps(Tokens tokens, const Options &options) const {
    Json command = command_of(options);
    command["token_ids"] = tokens;
    return service_.call(json::dump(Json{{"overlaps", std::move(command)}}));
}

std::string Router::workers() const {
    return service_.call("{\"workers\":{}}");
}

void Router::upsert_worker(std::string_view worker_json) const {
    answer_of(service_, "upsert_worker",
              json::parse_object(worker_json, "worker_json", DYNAMO_ERROR_INVALID_ARGUMENT));
}

void Router::delete_worker(std::uint64_t worker_id) const {
    answer_of(service_, "delete_worker", {{"worker_id", worker_id}});
}

}  // namespace dynamo
