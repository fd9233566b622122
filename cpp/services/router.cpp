// SPDX-License-Identifier: Apache-2.0
// The C functions of routers. Python executes them, in runtime/cluster/router/engine.py. Those that a gateway calls for
// each request are calls of embed/bridge.h, which many threads make at once; the others are commands in JSON.
#include "dynamo_llm/router.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/decimal.hpp"
#include "base/structs.hpp"
#include "services/handle_functions.hpp"
#include "services/service.hpp"

namespace dynamo {
namespace {

using json::Json;

struct Router : Service {
    explicit Router(const char *config_json)
        : Service("router", "dynamo_llm.runtime.cluster.router.engine:RouterEngine", config_json) {}
};

const char *phase_name(std::int32_t phase) {
    switch (phase) {
        case DYNAMO_ROUTE_ALL:
            return "all";
        case DYNAMO_ROUTE_PREFILL:
            return "prefill";
        case DYNAMO_ROUTE_DECODE:
            return "decode";
        default:
            reject_argument("options->phase must be a dynamo_route_phase_t from 0 to 2, not " +
                            std::to_string(phase));
    }
}

// Checks options, which may be NULL.
dynamo_route_options_t checked(const dynamo_route_options_t *given) {
    const auto options =
        given == nullptr ? dynamo_route_options_t{} : structs::read(given, "options");
    phase_name(options.phase);
    const auto check = [](const char *text, const char *key) {
        if (text != nullptr) {
            capi::utf8(text, key);
        }
    };
    check(options.request_id, "request_id");
    check(options.lora_name, "lora_name");
    check(options.cache_salt, "cache_salt");
    if (options.worker_count > 0 && options.worker_ids == nullptr) {
        reject_argument("options->worker_ids is NULL, but options->worker_count is " +
                        std::to_string(options.worker_count));
    }
    if (!(options.priority_jump >= 0 && options.priority_jump <= 1e9)) {
        reject_argument("options->priority_jump must be from 0 to 1e9 seconds, not " +
                        decimal::print(options.priority_jump));
    }
    if (options.expected_output_tokens > 4294967295) {
        reject_argument("options->expected_output_tokens must be from 0 to 4294967295, not " +
                        std::to_string(options.expected_output_tokens));
    }
    if (options.constraints_json != nullptr) {
        json::parse_object(options.constraints_json, "constraints_json",
                           DYNAMO_ERROR_INVALID_ARGUMENT);
    }
    return options;
}

// Converts options, which may be NULL, to the members of a command.
Json command_of(const dynamo_route_options_t *given) {
    const dynamo_route_options_t options = checked(given);
    Json command = {{"phase", phase_name(options.phase)}};
    const auto put = [&](const char *key, const char *text) {
        if (text != nullptr) {
            command[key] = text;
        }
    };
    put("request_id", options.request_id);
    put("lora_name", options.lora_name);
    put("cache_salt", options.cache_salt);
    if (options.worker_count > 0) {
        command["worker_ids"] = std::span(options.worker_ids, options.worker_count);
    }
    if (options.strict_priority > 0) {
        command["strict_priority"] = options.strict_priority;
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

Json command_of(const std::uint32_t *token_ids, std::size_t count,
                const dynamo_route_options_t *options) {
    const auto tokens = capi::array(token_ids, count, "token_ids");
    Json command = command_of(options);
    command["token_ids"] = tokens;
    return command;
}

// Returns a call that names a reserved request.
dynamo_router_call call_of(dynamo_router_function function, const char *request_id) {
    dynamo_router_call call{};
    call.function = function;
    call.request_id = capi::utf8(capi::not_null(request_id, "request_id"), "request_id");
    return call;
}

// Reads the answer to the command "select". The result refers to the answer.
dynamo_selection_t selection_of(const Json &answer) {
    dynamo_selection_t selection{};
    // Returns nullptr if the worker has no address.
    const auto address_of = [&](const char *key) -> const char * {
        const auto found = answer.find(key);
        const auto *const text =
            found == answer.end() ? nullptr : found->get_ptr<const std::string *>();
        return text == nullptr ? nullptr : text->c_str();
    };
    if (answer.contains("worker_id")) {
        selection.has_worker = 1;
        answer.at("worker_id").get_to(selection.worker_id);
        answer.at("data_parallel_rank").get_to(selection.data_parallel_rank);
        answer.at("overlap_blocks").get_to(selection.overlap_blocks);
        selection.address = address_of("address");
    }
    if (answer.contains("prefill_worker_id")) {
        selection.has_prefill_worker = 1;
        answer.at("prefill_worker_id").get_to(selection.prefill_worker_id);
        answer.at("prefill_data_parallel_rank").get_to(selection.prefill_data_parallel_rank);
        answer.at("prefill_overlap_blocks").get_to(selection.prefill_overlap_blocks);
        selection.prefill_address = address_of("prefill_address");
    }
    return selection;
}

// Copies a selection. Allocates one block that holds the struct, the token IDs, and the addresses, so that one
// dynamo_free() releases it.
dynamo_selection_t *owned_selection(dynamo_selection_t filled,
                                    std::span<const std::uint32_t> token_ids) {
    filled.struct_size = sizeof filled;
    const auto size_of = [](const char *text) {
        return text == nullptr ? 0 : std::strlen(text) + 1;
    };
    char *const block = static_cast<char *>(
        capi::owned::block(sizeof filled + token_ids.size_bytes() + size_of(filled.address) +
                           size_of(filled.prefill_address)));
    char *at = block + sizeof filled;
    const auto placed = [&](const void *bytes, std::size_t size) {
        std::memcpy(at, bytes, size);
        at += size;
        return at - size;
    };
    if (!token_ids.empty()) {
        filled.token_ids = reinterpret_cast<const std::uint32_t *>(
            placed(token_ids.data(), token_ids.size_bytes()));
        filled.token_count = token_ids.size();
    }
    for (const char **const text : {&filled.address, &filled.prefill_address}) {
        if (*text != nullptr) {
            *text = placed(*text, size_of(*text));
        }
    }
    std::memcpy(block, &filled, sizeof filled);
    return reinterpret_cast<dynamo_selection_t *>(block);
}

}  // namespace

template <>
struct HandleTraits<Router> {
    using CType = dynamo_router_t;
    static constexpr HandleKind kind = HandleKind::router;
};

}  // namespace dynamo

using namespace dynamo;
using capi::status_of;
using capi::value_of;

dynamo_router_t *dynamo_router_create(const char *config_json) {
    return services::create<Router>(config_json);
}

void dynamo_router_destroy(dynamo_router_t *router) {
    services::destroy<Router>(router);
}

char *dynamo_router_info(dynamo_router_t *router) {
    return services::text_of([&] { return json::dump(HandleRef<Router>(router)->description()); });
}

dynamo_selection_t *dynamo_router_select(dynamo_router_t *router, const uint32_t *token_ids,
                                         size_t count, const dynamo_route_options_t *options) {
    return value_of<dynamo_selection_t *>(nullptr, [&] {
        const HandleRef<Router> held(router);
        const auto tokens = capi::array(token_ids, count, "token_ids");
        dynamo_router_call call{};
        call.function = DYNAMO_ROUTER_SELECT;
        call.options = checked(options);
        call.request_id = call.options.request_id;
        call.token_ids = tokens.data();
        call.token_count = tokens.size();
        return owned_selection(held->call(call), tokens);
    });
}

dynamo_selection_t *dynamo_router_select_body(dynamo_router_t *router, const char *request_json,
                                              const dynamo_route_options_t *options) {
    return value_of<dynamo_selection_t *>(nullptr, [&] {
        const HandleRef<Router> held(router);
        const Body body = Body::parse(capi::text(request_json, "request_json"));
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
        const Json answer = json::parse(held->call(command), "answer");
        const auto token_ids = answer.at("token_ids").get<std::vector<std::uint32_t>>();
        return owned_selection(selection_of(answer), token_ids);
    });
}

int32_t dynamo_router_reserve(dynamo_router_t *router, const char *request_id,
                              const dynamo_selection_t *selection,
                              const dynamo_route_options_t *options) {
    return status_of([&] {
        const HandleRef<Router> held(router);
        dynamo_router_call call = call_of(DYNAMO_ROUTER_RESERVE, request_id);
        call.selection = structs::read(selection, "selection");
        call.token_count = call.selection.token_count;
        call.token_ids =
            capi::array(call.selection.token_ids, call.token_count, "selection->token_ids").data();
        if (call.selection.has_worker == 0 && call.selection.has_prefill_worker == 0) {
            reject_argument("selection names no worker: has_worker and has_prefill_worker are 0");
        }
        call.options = checked(options);
        held->call(call);
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_prefill_complete(dynamo_router_t *router, const char *request_id) {
    return status_of([&] {
        HandleRef<Router>(router)->call(call_of(DYNAMO_ROUTER_PREFILL_COMPLETE, request_id));
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_output_block(dynamo_router_t *router, const char *request_id, double decay) {
    return status_of([&] {
        const HandleRef<Router> held(router);
        if (!(decay >= 0 && decay <= 1)) {
            reject_argument("decay must be from 0 to 1, not " + decimal::print(decay));
        }
        dynamo_router_call call = call_of(DYNAMO_ROUTER_OUTPUT_BLOCK, request_id);
        call.decay = decay;
        held->call(call);
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_free(dynamo_router_t *router, const char *request_id) {
    return status_of([&] {
        HandleRef<Router>(router)->call(call_of(DYNAMO_ROUTER_FREE, request_id));
        return DYNAMO_OK;
    });
}

char *dynamo_router_loads(dynamo_router_t *router, const uint32_t *token_ids, size_t count,
                          const dynamo_route_options_t *options) {
    return services::text_of([&] {
        return HandleRef<Router>(router)->call("loads", command_of(token_ids, count, options));
    });
}

char *dynamo_router_overlaps(dynamo_router_t *router, const uint32_t *token_ids, size_t count,
                             const dynamo_route_options_t *options) {
    return services::text_of([&] {
        return HandleRef<Router>(router)->call("overlaps", command_of(token_ids, count, options));
    });
}

char *dynamo_router_workers(dynamo_router_t *router) {
    return services::text_of(
        [&] { return HandleRef<Router>(router)->call("workers", Json::object()); });
}

int32_t dynamo_router_upsert_worker(dynamo_router_t *router, const char *worker_json) {
    return status_of([&] {
        const HandleRef<Router> held(router);
        held->call("upsert_worker",
                   json::parse_object(capi::text(worker_json, "worker_json"), "worker_json",
                                      DYNAMO_ERROR_INVALID_ARGUMENT));
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_delete_worker(dynamo_router_t *router, uint64_t worker_id) {
    return status_of([&] {
        HandleRef<Router>(router)->call("delete_worker", {{"worker_id", worker_id}});
        return DYNAMO_OK;
    });
}
