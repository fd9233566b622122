// SPDX-License-Identifier: Apache-2.0
#include "core/router.hpp"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/body.hpp"
#include "core/schema.hpp"
#include "core/utf8.hpp"

namespace dynamo {
namespace {

using json::Json;

constexpr const char *engine_class = "dynamo_llm.runtime.cluster.router:RouterEngine";
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

// What options say, as members of a command.
Json command_of(const Router::Options &options) {
    Json command = {{"phase", phase_name(options.phase)}};
    put(command, "request_id", options.request_id);
    put(command, "lora_name", options.lora_name);
    put(command, "cache_salt", options.cache_salt);
    if (options.worker_count > 0) {
        if (options.workers == nullptr) {
            reject("options->workers is NULL, but options->worker_count is " +
                   std::to_string(options.worker_count));
        }
        command["workers"] = std::span(options.workers, options.worker_count);
    }
    if (options.strict_priority > 0) {
        command["strict_priority"] = options.strict_priority;
    }
    if (!std::isfinite(options.priority_jump) || options.priority_jump < 0) {
        reject("options->priority_jump must be seconds, from 0 on");
    }
    if (options.priority_jump > 0) {
        command["priority_jump"] = options.priority_jump;
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
    chosen.dp_rank = answer.at(prefix + "dp_rank").get<std::uint32_t>();
    chosen.overlap_blocks = answer.at(prefix + "overlap_blocks").get<std::uint32_t>();
    if (const Json &address = answer.at(prefix + "address"); address.is_string()) {
        chosen.address = address.get<std::string>();
    }
    return chosen;
}

Json answer_of(const Service &service, const char *name, Json command) {
    return Json::parse(service.call(json::dump(Json{{name, std::move(command)}})));
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

Config Router::parse_config(std::string_view text) {
    const Json object =
        json::parse_object(json::without_bom(text), "configuration", DYNAMO_ERROR_INVALID_CONFIG);
    check(object, config_keys, DYNAMO_ERROR_INVALID_CONFIG, "configuration");
    return Service::configure(engine_class, "configuration", text);
}

Router::Router(const Config &config) : service_(what, config), info_(json::dump(service_.info())) {}

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
    // The body stays as it is: a template may write out objects, and their keys have an order.
    std::string command = json::dump(Json{{"select", command_of(options)}});
    command.resize(command.size() - 2);  // without the two braces at its end
    command += ",\"body\":" + body.text + "}}";
    const Json answer = Json::parse(service_.call(command));
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
        command["dp_rank"] = selection.dp_rank;
    }
    if (selection.has_prefill_worker != 0) {
        command["prefill_worker_id"] = selection.prefill_worker_id;
        command["prefill_dp_rank"] = selection.prefill_dp_rank;
    }
    answer_of(service_, "reserve", std::move(command));
}

void Router::prefill_complete(const char *request_id) const {
    answer_of(service_, "prefill_complete", of_request(request_id));
}

void Router::output_block(const char *request_id, double decay) const {
    if (!(decay >= 0 && decay <= 1)) {
        reject("decay must be from 0 to 1");
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
