// SPDX-License-Identifier: Apache-2.0
#include "services/router.hpp"

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>

#include "capi/arguments.hpp"
#include "capi/barrier.hpp"
#include "capi/owned.hpp"
#include "capi/structs.hpp"
#include "embed/python.hpp"
#include "engines/native.hpp"

using namespace dynamo;
using capi::created;
using capi::status_of;
using capi::value_of;

namespace {

Router::Tokens tokens_of(const uint32_t *token_ids, std::size_t count) {
    return {count == 0 ? nullptr : capi::not_null(token_ids, "token_ids"), count};
}

dynamo_route_options_t options_of(const dynamo_route_options_t *options) {
    return options == nullptr ? dynamo_route_options_t{} : capi::read(options, "options");
}

std::size_t size_of(const std::optional<Chosen> &chosen) {
    return chosen.has_value() && chosen->address.has_value() ? chosen->address->size() + 1 : 0;
}

// Copies the address of a worker to `at`, and advances `at` past it. Returns nullptr if it has no address.
const char *placed(const std::optional<Chosen> &chosen, char *&at) {
    const std::size_t size = size_of(chosen);
    if (size == 0) {
        return nullptr;
    }
    std::memcpy(at, chosen->address->c_str(), size);
    at += size;
    return at - size;
}

// Allocates one block that holds the struct, the token IDs, and the addresses, so that one dynamo_free() releases it.
dynamo_selection_t *owned_selection(const Selection &selection) {
    const std::size_t tokens_size = selection.token_ids.size() * sizeof(std::uint32_t);
    char *const block = static_cast<char *>(
        capi::owned::block(sizeof(dynamo_selection_t) + tokens_size + size_of(selection.worker) +
                           size_of(selection.prefill)));
    dynamo_selection_t filled{};
    filled.struct_size = sizeof filled;
    if (selection.worker.has_value()) {
        filled.has_worker = 1;
        filled.worker_id = selection.worker->worker_id;
        filled.data_parallel_rank = selection.worker->data_parallel_rank;
        filled.overlap_blocks = selection.worker->overlap_blocks;
    }
    if (selection.prefill.has_value()) {
        filled.has_prefill_worker = 1;
        filled.prefill_worker_id = selection.prefill->worker_id;
        filled.prefill_data_parallel_rank = selection.prefill->data_parallel_rank;
        filled.prefill_overlap_blocks = selection.prefill->overlap_blocks;
    }
    char *at = block + sizeof filled;
    if (tokens_size > 0) {
        std::memcpy(at, selection.token_ids.data(), tokens_size);
        filled.token_ids = reinterpret_cast<const std::uint32_t *>(at);
        filled.token_count = selection.token_ids.size();
        at += tokens_size;
    }
    filled.address = placed(selection.worker, at);
    filled.prefill_address = placed(selection.prefill, at);
    std::memcpy(block, &filled, sizeof filled);
    return reinterpret_cast<dynamo_selection_t *>(block);
}

}  // namespace

dynamo_router_t *dynamo_router_create(const char *config_json) {
    return created<Router>([&] {
        RuntimeConfig config = Router::parse_config(capi::text(config_json, "config_json"));
        engines::register_native();
        config.models.front().engine = embed::engine_from_python(config.models.front());
        return open_handle(std::make_shared<Router>(config));
    });
}

void dynamo_router_destroy(dynamo_router_t *router) {
    status_of([&] {
        if (router != nullptr && !close_handle<Router>(router)) {
            HandleRef<Router> says_why(router);
        }
        return DYNAMO_OK;
    });
}

char *dynamo_router_info(dynamo_router_t *router) {
    return value_of<char *>(nullptr,
                            [&] { return capi::owned::text(HandleRef<Router>(router)->info()); });
}

dynamo_selection_t *dynamo_router_select(dynamo_router_t *router, const uint32_t *token_ids,
                                         size_t count, const dynamo_route_options_t *options) {
    return value_of<dynamo_selection_t *>(nullptr, [&] {
        HandleRef<Router> held(router);
        return owned_selection(held->select(tokens_of(token_ids, count), options_of(options)));
    });
}

dynamo_selection_t *dynamo_router_select_body(dynamo_router_t *router, const char *request_json,
                                              const dynamo_route_options_t *options) {
    return value_of<dynamo_selection_t *>(nullptr, [&] {
        HandleRef<Router> held(router);
        return owned_selection(
            held->select_body(capi::text(request_json, "request_json"), options_of(options)));
    });
}

int32_t dynamo_router_reserve(dynamo_router_t *router, const char *request_id,
                              const dynamo_selection_t *selection,
                              const dynamo_route_options_t *options) {
    return status_of([&] {
        HandleRef<Router> held(router);
        capi::not_null(request_id, "request_id");
        const auto given = capi::read(selection, "selection");
        if (given.token_count > 0) {
            capi::not_null(given.token_ids, "selection->token_ids");
        }
        if (given.has_worker == 0 && given.has_prefill_worker == 0) {
            throw Failure(DYNAMO_ERROR_INVALID_ARGUMENT,
                          "selection names no worker: has_worker and has_prefill_worker are 0");
        }
        held->reserve(request_id, given, options_of(options));
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_prefill_complete(dynamo_router_t *router, const char *request_id) {
    return status_of([&] {
        HandleRef<Router>(router)->prefill_complete(request_id);
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_output_block(dynamo_router_t *router, const char *request_id, double decay) {
    return status_of([&] {
        HandleRef<Router>(router)->output_block(request_id, decay);
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_free(dynamo_router_t *router, const char *request_id) {
    return status_of([&] {
        HandleRef<Router>(router)->free(request_id);
        return DYNAMO_OK;
    });
}

char *dynamo_router_loads(dynamo_router_t *router, const uint32_t *token_ids, size_t count,
                          const dynamo_route_options_t *options) {
    return value_of<char *>(nullptr, [&] {
        HandleRef<Router> held(router);
        return capi::owned::text(held->loads(tokens_of(token_ids, count), options_of(options)));
    });
}

char *dynamo_router_overlaps(dynamo_router_t *router, const uint32_t *token_ids, size_t count,
                             const dynamo_route_options_t *options) {
    return value_of<char *>(nullptr, [&] {
        HandleRef<Router> held(router);
        return capi::owned::text(held->overlaps(tokens_of(token_ids, count), options_of(options)));
    });
}

char *dynamo_router_workers(dynamo_router_t *router) {
    return value_of<char *>(
        nullptr, [&] { return capi::owned::text(HandleRef<Router>(router)->workers()); });
}

int32_t dynamo_router_upsert_worker(dynamo_router_t *router, const char *worker_json) {
    return status_of([&] {
        HandleRef<Router>(router)->upsert_worker(capi::text(worker_json, "worker_json"));
        return DYNAMO_OK;
    });
}

int32_t dynamo_router_delete_worker(dynamo_router_t *router, uint64_t worker_id) {
    return status_of([&] {
        HandleRef<Router>(router)->delete_worker(worker_id);
        return DYNAMO_OK;
    });
}
